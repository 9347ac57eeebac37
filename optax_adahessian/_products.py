"""Products of the Hessian with vectors, and with every unit vector: its exact diagonal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from optax_adahessian._errors import check_function, check_like, check_real_leaves

Hvp = Literal["forward_over_reverse", "reverse_over_reverse"]
Loss = Callable[[Any], tuple[Any, Any]]  # params -> (scalar, aux)


def check_hvp(hvp: Any) -> None:
    """Raises unless `hvp` names a way to differentiate twice."""
    if hvp not in ("forward_over_reverse", "reverse_over_reverse"):
        raise ValueError(f"`hvp` (={hvp!r}) must be 'forward_over_reverse' or 'reverse_over_reverse'.")


def checked_loss(name: str, fun: Callable[..., Any], has_aux: bool = False, args: Any = (), kwargs: Any = None) -> Loss:
    """`fun` as a function of the parameters alone that returns ``(scalar, aux)``."""
    check_function(name, fun)

    def loss(params: Any) -> tuple[Any, Any]:
        out = fun(params, *args, **(kwargs or {}))
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(f"`{name}` must return a pair (loss, aux) with `has_aux=True`, and returned {_shown(out)}.")
        value, aux = out if has_aux else (out, None)
        if _shown(value) not in ("float16[]", "bfloat16[]", "float32[]", "float64[]"):
            remedy = "Take the mean or the sum over the batch"
            if isinstance(value, tuple):
                remedy = "Return the loss alone, or pass `has_aux=True` to `value_grad_and_hessian_diag`"
            raise TypeError(f"`{name}` must return one real scalar, and returned {_shown(value)}. {remedy}.")
        return value, aux

    return loss


def _shown(out: Any) -> str:
    """A value in an error message: dtype and shape of an array or a float, the type's name of anything else."""
    if isinstance(out, float) or hasattr(out, "dtype"):
        return f"{jnp.result_type(out).name}{list(np.shape(out))}"
    return f"a {type(out).__name__}"


def hessian_vector_product(
    fun: Callable[[Any], Any], params: Any, vector: Any, *, hvp: Hvp = "forward_over_reverse"
) -> Any:
    """The product ``H v`` of the Hessian of `fun` at `params` with `vector`.

    ``H v = d/dt grad fun(params + t v)`` at t = 0: the tangent of the gradient, exact to rounding, without
    forming H. It costs about two gradients on top of the one that it contains.

    Args:
      fun: a function of `params` alone that returns a real scalar.
      params: a pytree of real floating-point arrays.
      vector: a pytree with the structure, shapes and dtypes of `params`.
      hvp: "forward_over_reverse", a `jax.jvp` of the gradient; or "reverse_over_reverse", for losses that
        forward mode cannot differentiate.

    Returns:
      A pytree like `params`. Unit: that of `fun` per squared unit of `params`, times that of `vector`.

    Raises:
      TypeError: if `fun` is not callable or not scalar, or a leaf is not real.
      ValueError: if `hvp` is unknown or `vector` does not have the structure and shapes of `params`.

    Example:
      >>> import jax.numpy as jnp, optax_adahessian as oah
      >>> hz = oah.hessian_vector_product(lambda w: w[0] ** 2 * w[1], jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]))
      >>> [float(x) for x in hz]
      [4.0, 2.0]

    Reference:
      Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6(1), 1994.
    """
    check_hvp(hvp)
    check_real_leaves("params", params)
    check_like("vector", vector, params)
    return gradient_and_product(checked_loss("fun", fun), params, vector, hvp)[2]


def exact_hessian_diag(fun: Callable[[Any], Any], params: Any) -> Any:
    """The exact diagonal of the Hessian of `fun` at `params`, for small problems.

    ``diag(H)_i = e_i^T H e_i``: one Hessian-vector product for each parameter, one after the other. Each costs two
    gradients.

    Args:
      fun: a function of `params` alone that returns a real scalar.
      params: a pytree of real floating-point arrays.

    Returns:
      A pytree with the structure, shapes and dtypes of `params`.

    Raises:
      TypeError: if `fun` is not callable or not scalar, or a leaf is not real.

    Example:
      >>> import jax.numpy as jnp, optax_adahessian as oah
      >>> diag = oah.exact_hessian_diag(lambda w: w[0] ** 2 * w[1], jnp.array([1.0, 2.0]))
      >>> [float(x) for x in diag]
      [4.0, 0.0]
    """
    check_real_leaves("params", params)
    params = jax.tree.map(jnp.asarray, params)
    _, product, _ = jax.linearize(jax.grad(checked_loss("fun", fun), has_aux=True), params, has_aux=True)
    leaves, treedef = jax.tree_util.tree_flatten(params)

    def entry(leaf_index: int, i: jax.Array) -> jax.Array:
        unit = [jnp.zeros(leaf.size, leaf.dtype) for leaf in leaves]
        unit[leaf_index] = unit[leaf_index].at[i].set(1)
        tangent = jax.tree.unflatten(treedef, [u.reshape(leaf.shape) for u, leaf in zip(unit, leaves, strict=True)])
        return jax.tree.leaves(product(tangent))[leaf_index].ravel()[i]

    diag = [
        jax.lax.map(functools.partial(entry, index), jnp.arange(leaf.size)).reshape(leaf.shape)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, diag)


def gradient_and_product(
    loss: Loss, params: Any, vector: Any, hvp: Hvp, more_follow: bool = False
) -> tuple[tuple[Any, Any], Any, Any, Callable[[Any], Any]]:
    """``(value, aux)``, the gradient, ``H v``, and a function for further vectors, from one trace of the loss."""
    try:
        return _WAYS[hvp](loss, params, vector, more_follow)
    except Exception as error:
        other = next(way for way in _WAYS if way != hvp)
        if _can_be_traced(lambda p, v: _WAYS[other](loss, p, v, more_follow)[1:3], params, vector):
            error.add_note(
                f"`hvp` (={hvp!r}) cannot differentiate this loss twice, and {other!r} can. Pass `hvp={other!r}` to "
                f"`value_grad_and_hessian_diag`, or `hessian_diagonal_fn=hutchinson(hvp={other!r})` with `obj_fn`."
            )
        raise


def _gradient(loss: Loss) -> Callable[[Any], tuple[Any, tuple[Any, Any]]]:
    def gradient(params: Any) -> tuple[Any, tuple[Any, Any]]:
        value_and_aux, grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, value_and_aux

    return gradient


def _forward_over_reverse(loss: Loss, params: Any, vector: Any, more_follow: bool) -> Any:
    if more_follow:  # one trace for all vectors, at the price of the residuals in memory
        grads, product, value_and_aux = jax.linearize(_gradient(loss), params, has_aux=True)
        return value_and_aux, grads, product(vector), product
    grads, along, value_and_aux = jax.jvp(_gradient(loss), (params,), (vector,), has_aux=True)
    return value_and_aux, grads, along, None


def _reverse_over_reverse(loss: Loss, params: Any, vector: Any, more_follow: bool) -> Any:
    del more_follow
    grads, pullback, value_and_aux = jax.vjp(_gradient(loss), params, has_aux=True)
    product = lambda v: pullback(v)[0]  # noqa: E731 - H is symmetric: v^T H = H v
    return value_and_aux, grads, product(vector), product


_WAYS: dict[Hvp, Callable[..., Any]] = {
    "forward_over_reverse": _forward_over_reverse,
    "reverse_over_reverse": _reverse_over_reverse,
}


def _can_be_traced(fun: Callable[..., Any], *args: Any) -> bool:
    try:
        jax.eval_shape(fun, *args)
    except Exception:  # noqa: BLE001 - whatever the user's function raises
        return False
    return True
