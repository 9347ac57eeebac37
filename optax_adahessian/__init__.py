"""AdaHessian for Optax: momentum over the root mean square of the Hessian's diagonal."""

from optax_adahessian._adahessian import adahessian, scale_by_adahessian
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
from optax_adahessian._state import ScaleByAdaHessianState, probe_scale

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
    "probe_scale",
    "rademacher_like",
    "refresh_due",
    "refresh_key",
    "scale_by_adahessian",
    "value_grad_and_hessian_diag",
]
