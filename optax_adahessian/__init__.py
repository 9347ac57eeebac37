"""AdaHessian for Optax: momentum over the root mean square of the Hessian's diagonal."""

from importlib import import_module as _import_module
from typing import Any as _Any

__version__ = "0.1.0"

_PUBLIC = {  # where each name is defined, as __init__.pyi says it to type checkers
    "_adahessian": ["ScaleByAdaHessianState", "adahessian", "scale_by_adahessian"],
    "_estimate": ["HutchinsonState", "hutchinson", "refresh_due", "refresh_key", "value_grad_and_hessian_diag"],
    "_momentum": ["AdaptiveNesterovState", "adaptive_nesterov"],
    "_probes": ["rademacher_like"],
    "_products": ["exact_hessian_diag", "hessian_vector_product"],
    "_spatial_average": ["SpatialAverage"],
}
__all__ = sorted(name for names in _PUBLIC.values() for name in names)


def __getattr__(name: str) -> _Any:
    """Imports a public name when it is first used, so that the command line's help does not import JAX."""
    for module, names in _PUBLIC.items():
        if name in names:
            globals()[name] = getattr(_import_module(f"{__name__}.{module}"), name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
