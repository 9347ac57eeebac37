"""Looking at the method: paths over functions of two variables, and the error of the Hessian's estimate.

Everything here returns arrays; `optax_adahessian.analysis.plots`, which draws them, needs matplotlib and is imported
by name.
"""

from optax_adahessian.analysis.arguments import DEFAULT_RATES
from optax_adahessian.analysis.estimates import EstimateReport, estimate_report, small_network
from optax_adahessian.analysis.surfaces import SURFACES, ExpressionError, Surface, parse_expression
from optax_adahessian.analysis.trajectories import OPTIMIZERS, Path, finite_part, newton, trajectory

__all__ = [
    "DEFAULT_RATES",
    "OPTIMIZERS",
    "SURFACES",
    "EstimateReport",
    "ExpressionError",
    "Path",
    "Surface",
    "estimate_report",
    "finite_part",
    "newton",
    "parse_expression",
    "small_network",
    "trajectory",
]
