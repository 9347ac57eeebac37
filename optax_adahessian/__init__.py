"""AdaHessian for Optax: momentum over an average of the Hessian's diagonal."""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:  # no `__getattr__` there: to a type checker it would make every name a valid one
    from optax_adahessian._adahessian import ScaleByAdaHessianState, adahessian, scale_by_adahessian
    from optax_adahessian._estimate import (
        HutchinsonState,
        hutchinson,
        refresh_due,
        refresh_key,
        value_grad_and_hessian_diag,
    )
    from optax_adahessian._momentum import AdaptiveNesterovState, adaptive_nesterov
    from optax_adahessian._probes import rademacher_like
    from optax_adahessian._products import exact_hessian_diag, hessian_vector_product
    from optax_adahessian._spatial_average import SpatialAverage
else:

    def __getattr__(name: str) -> _typing.Any:
        """Imports the module of a name when the name is first used: the command line's help does not need JAX."""
        if name in __all__:
            for module in ("_adahessian", "_momentum", "_spatial_average", "_estimate", "_products", "_probes"):
                found = vars(_importlib.import_module(f"{__name__}.{module}"))
                if name in found:
                    globals()[name] = found[name]  # later uses do not come here
                    return found[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "AdaptiveNesterovState",
    "HutchinsonState",
    "ScaleByAdaHessianState",
    "SpatialAverage",
    "adahessian",
    "adaptive_nesterov",
    "exact_hessian_diag",
    "hessian_vector_product",
    "hutchinson",
    "rademacher_like",
    "refresh_due",
    "refresh_key",
    "scale_by_adahessian",
    "value_grad_and_hessian_diag",
]
