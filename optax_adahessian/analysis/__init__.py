"""Looking at the method: paths over functions of two variables, and the error of the Hessian's estimate.

Everything here returns arrays; `optax_adahessian.analysis.plots`, which draws them, needs matplotlib and is imported
by name.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # no `__getattr__` there: to a type checker it would make every name a valid one
    from optax_adahessian.analysis.arguments import DEFAULT_RATES
    from optax_adahessian.analysis.estimates import EstimateReport, estimate_report, small_network
    from optax_adahessian.analysis.surfaces import SURFACES, ExpressionError, Surface, parse_expression
    from optax_adahessian.analysis.trajectories import OPTIMIZERS, Path, finite_part, newton, trajectory
else:

    def __getattr__(name: str) -> Any:
        """Imports the module of a name when the name is first used: the command line's help does not need JAX."""
        if name in __all__:
            for module in ("surfaces", "arguments", "trajectories", "estimates"):
                found = vars(importlib.import_module(f"{__name__}.{module}"))
                if name in found:
                    return found[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
