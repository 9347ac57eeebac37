"""The loss as a user hands it in, checked where it is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Loss = Callable[[Any], tuple[Any, Any]]  # params -> (scalar, aux)


def checked_loss(name: str, fun: Callable[..., Any], has_aux: bool = False, args: Any = (), kwargs: Any = None) -> Loss:
    """`fun` as a function of the parameters alone that returns ``(scalar, aux)`` or raises in words."""

    def loss(params: Any) -> tuple[Any, Any]:
        out = fun(params, *args, **(kwargs or {}))
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(f"`{name}` returned {_shown(out)}; with `has_aux=True` it must return a pair (loss, aux).")
        value, aux = out if has_aux else (out, None)
        if not _is_real_scalar(value):
            remedy = "Take the mean or the sum over the batch"
            if isinstance(value, tuple):
                remedy = "Return the loss alone, or pass `has_aux=True` to `value_grad_and_hessian_diag`"
            raise TypeError(f"`{name}` returned {_shown(value)}; it must return one real scalar. {remedy}.")
        return value, aux

    return loss


def _is_real_scalar(value: Any) -> bool:
    if not isinstance(value, (float, jax.Array, np.ndarray, np.generic)):
        return False
    return jnp.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _shown(out: Any) -> str:
    """A value in an error message: shape and dtype for an array, the type's name for anything else."""
    if hasattr(out, "dtype"):
        return f"{jnp.dtype(out.dtype).name}{list(jnp.shape(out))}"
    return f"a {type(out).__name__}"
