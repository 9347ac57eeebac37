"""AdaHessian for Optax: momentum over an average of the Hessian's diagonal."""

from optax_adahessian._alias import adahessian
from optax_adahessian._curvature import HutchinsonState, hutchinson, value_grad_and_hessian_diag
from optax_adahessian._probes import rademacher_like
from optax_adahessian._products import exact_hessian_diag, hessian_vector_product
from optax_adahessian._schedule import refresh_due
from optax_adahessian._spatial import SpatialAverage
from optax_adahessian._transform import ScaleByAdaHessianState, scale_by_adahessian

__version__ = "0.1.0"

__all__ = [
    "HutchinsonState",
    "ScaleByAdaHessianState",
    "SpatialAverage",
    "adahessian",
    "exact_hessian_diag",
    "hessian_vector_product",
    "hutchinson",
    "rademacher_like",
    "refresh_due",
    "scale_by_adahessian",
    "value_grad_and_hessian_diag",
]
