"""Looking at the method: paths over functions of two variables, and the error of the Hessian's estimate.

Everything here returns arrays; `optax_adahessian.analysis.plots`, which draws them, needs matplotlib and is imported
by name.
"""

from optax_adahessian.analysis.estimates import (
    dense_hessian,
    double_backward_product,
    error_against_probes,
    hutchinson_samples,
    predicted_error,
    row_norms,
)
from optax_adahessian.analysis.expressions import parse_expression
from optax_adahessian.analysis.networks import small_network
from optax_adahessian.analysis.optimizers import DEFAULT_RATES, OPTIMIZERS, newton
from optax_adahessian.analysis.recorded import recorded_probes
from optax_adahessian.analysis.reports import EstimateReport, estimate_report
from optax_adahessian.analysis.surfaces import SURFACES, Surface
from optax_adahessian.analysis.tokens import ExpressionError
from optax_adahessian.analysis.trajectories import Path, finite_part, trajectory

__all__ = [
    "DEFAULT_RATES",
    "OPTIMIZERS",
    "SURFACES",
    "EstimateReport",
    "ExpressionError",
    "Path",
    "Surface",
    "dense_hessian",
    "double_backward_product",
    "error_against_probes",
    "estimate_report",
    "finite_part",
    "hutchinson_samples",
    "newton",
    "parse_expression",
    "predicted_error",
    "recorded_probes",
    "row_norms",
    "small_network",
    "trajectory",
]
