"""Products of the Hessian with vectors, and with every unit vector: its exact diagonal."""

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from optax_adahessian._errors import check_like, check_real_leaves, check_type

Hvp = Literal["forward_over_reverse", "reverse_over_reverse"]
Loss = Callable[[Any], tuple[Any, Any]]  # params -> (scalar, aux)


def checked_loss(name: str, fun: Callable[..., Any], has_aux: bool = False, args: Any = (), kwargs: Any = None) -> Loss:
    """`fun` as a function of the parameters alone that returns ``(scalar, aux)``."""
    check_type(name, fun, Callable, f"{name}=lambda params: loss_fn(params, batch)")

    def loss(params: Any) -> tuple[Any, Any]:
        out = fun(params, *args, **(kwargs or {}))
        if has_aux and not isinstance(out, tuple):
            raise TypeError(f"`{name}` must return a pair (loss, aux) with `has_aux=True`, and returned one value.")
        value, aux = out if has_aux else (out, None)
        is_array = isinstance(value, (float, jax.Array, np.ndarray, np.generic))
        if not is_array or np.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            shown = f"{jnp.result_type(value).name}{list(np.shape(value))}" if is_array else f"a {type(value).__name__}"
            raise TypeError(
                f"`{name}` must return one real scalar, and returned {shown}. Take the mean or the sum over the batch. "
                "With auxiliary output, pass `has_aux=True` to `value_grad_and_hessian_diag`."
            )
        return value, aux

    return loss


def hessian_vector_product(
    fun: Callable[[Any], Any], params: Any, vector: Any, *, hvp: Hvp = "forward_over_reverse"
) -> Any:
    """The Hessian of `fun` at `params` times a vector, ``H v = d/dt grad fun(params + t v)`` at t = 0.

    It is exact to rounding, does not form H, and costs about two gradients on top of the one that it contains
    (Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6(1), 1994).

    Args:
      fun: a function of `params` alone that returns a real scalar.
      params: a pytree of real floating-point arrays.
      vector: a pytree with the structure, shapes and dtypes of `params`, as has the product.
      hvp: "forward_over_reverse", a `jax.jvp` of the gradient; or "reverse_over_reverse", for losses that
        forward mode cannot differentiate.

    Raises:
      TypeError, ValueError: if `fun` is not scalar, a leaf is not real, or `vector` does not fit `params`.
    """
    check_real_leaves("params", params)
    check_like("vector", vector, params)
    return gradient_and_product(checked_loss("fun", fun), params, vector, hvp)[2]


def exact_hessian_diag(fun: Callable[[Any], Any], params: Any) -> Any:
    """The exact diagonal of the Hessian of `fun` at `params`, for small problems.

    ``diag(H)_i = e_i^T H e_i``: one Hessian-vector product, of two gradients, for each parameter, one after the other.
    `fun` and `params` are those of `hessian_vector_product`, also in their errors; the result is like `params`.
    """
    check_real_leaves("params", params)
    params = jax.tree.map(jnp.asarray, params)
    _, product, _ = jax.linearize(jax.grad(checked_loss("fun", fun), has_aux=True), params, has_aux=True)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def entry(i: jax.Array) -> jax.Array:
        return jax.flatten_util.ravel_pytree(product(unravel(jnp.zeros_like(flat).at[i].set(1))))[0][i]

    return unravel(jax.lax.map(entry, jnp.arange(flat.size)))


def gradient_and_product(
    loss: Loss, params: Any, vector: Any, hvp: Hvp, more_follow: bool = False
) -> tuple[tuple[Any, Any], Any, Any, Callable[[Any], Any]]:
    """``(value, aux)``, the gradient, ``H v``, and a function for further vectors, from one trace of the loss."""
    if hvp not in ("forward_over_reverse", "reverse_over_reverse"):
        raise ValueError(f"`hvp` (={hvp!r}) must be 'forward_over_reverse' or 'reverse_over_reverse'.")
    try:
        return _gradient_and_product(loss, params, vector, hvp, more_follow)
    except Exception as error:
        other: Hvp = "reverse_over_reverse" if hvp == "forward_over_reverse" else "forward_over_reverse"
        with contextlib.suppress(Exception):  # whatever the loss raises that way
            jax.eval_shape(lambda p, v: _gradient_and_product(loss, p, v, other, more_follow)[1:3], params, vector)
            error.add_note(
                f"`hvp` (={hvp!r}) cannot differentiate this loss twice, and {other!r} can. Pass `hvp={other!r}` to "
                f"`value_grad_and_hessian_diag`, or `hessian_diagonal_fn=hutchinson(hvp={other!r})` with `obj_fn`."
            )
        raise


def _gradient_and_product(loss: Loss, params: Any, vector: Any, hvp: Hvp, more_follow: bool) -> Any:
    def gradient(p: Any) -> tuple[Any, tuple[Any, Any]]:
        value_and_aux, grads = jax.value_and_grad(loss, has_aux=True)(p)
        return grads, value_and_aux

    if hvp == "reverse_over_reverse":
        grads, pullback, value_and_aux = jax.vjp(gradient, params, has_aux=True)
        return value_and_aux, grads, pullback(vector)[0], lambda v: pullback(v)[0]  # H is symmetric: v^T H = H v
    if more_follow:  # one trace for all vectors, at the price of the residuals in memory
        with contextlib.suppress(Exception):  # of what can be pushed forward and not linearized, as Pallas kernels
            grads, product, value_and_aux = jax.linearize(gradient, params, has_aux=True)
            return value_and_aux, grads, product(vector), product
    grads, along, value_and_aux = jax.jvp(gradient, (params,), (vector,), has_aux=True)
    return value_and_aux, grads, along, lambda v: jax.jvp(gradient, (params,), (v,), has_aux=True)[1]
