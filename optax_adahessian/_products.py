"""Products of the Hessian with vectors, and with every unit vector: its exact diagonal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from optax_adahessian._checks import check_callable, check_choice, check_like, check_real_leaves
from optax_adahessian._forward_mode import leaves_a_custom_vjp
from optax_adahessian._losses import Loss, checked_loss

Hvp = Literal["forward_over_reverse", "reverse_over_reverse"]


_CANNOT_PUSH = (
    "`hvp` (='forward_over_reverse') cannot pass this loss: its gradient exists, but JAX cannot push a tangent through "
    "it (a `custom_vjp` whose rules call a `custom_vjp` again, for example). Pass hvp='reverse_over_reverse'; with "
    "`obj_fn`, hessian_diagonal_fn=hutchinson(hvp='reverse_over_reverse')."
)


def check_hvp(hvp: Any) -> None:
    """Raises unless `hvp` names a way to differentiate twice."""
    check_choice("hvp", hvp, ("forward_over_reverse", "reverse_over_reverse"))


def hessian_vector_product(
    fun: Callable[[Any], Any], params: Any, vector: Any, *, hvp: Hvp = "forward_over_reverse"
) -> Any:
    """The product ``H v`` of the Hessian of `fun` at `params` with `vector`.

    ``H v = d/dt grad fun(params + t v)`` at t = 0: the tangent of the gradient, exact to rounding, without
    forming H. Costs about two gradients on top of the one it contains.

    Args:
      fun: a function of `params` alone that returns a real scalar.
      params: a pytree of real floating-point arrays.
      vector: a pytree with the structure, shapes and dtypes of `params`.
      hvp: "forward_over_reverse", a `jax.jvp` of the gradient; or "reverse_over_reverse", for losses that
        forward mode cannot pass.

    Returns:
      A pytree like `params`. Unit: that of `fun` per squared unit of `params`, times that of `vector`.

    Raises:
      TypeError: if `fun` is not callable or not scalar, a leaf is not real, or forward mode cannot pass `fun`.
      ValueError: if `hvp` is unknown or `vector` does not have the shapes of `params`.

    Example:
      >>> import jax.numpy as jnp, optax_adahessian as oah
      >>> hz = oah.hessian_vector_product(lambda w: w[0] ** 2 * w[1], jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]))
      >>> [float(x) for x in hz]
      [4.0, 2.0]

    Reference:
      Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6(1), 1994.
    """
    check_hvp(hvp)
    check_callable("fun", fun, "lambda p: jnp.sum(p**2)")
    check_real_leaves("params", params)
    check_real_leaves("vector", vector)
    check_like("vector", vector, params)
    _, _, product, _ = gradient_and_product(checked_loss("fun", fun), params, vector, hvp)
    return product


def exact_hessian_diag(fun: Callable[[Any], Any], params: Any) -> Any:
    """The exact diagonal of the Hessian of `fun` at `params`, for small problems.

    ``diag(H)_i = e_i^T H e_i``, one Hessian-vector product for every parameter: the cost of two gradients
    each, run one after the other, so that memory stays that of one.

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
    check_callable("fun", fun, "lambda p: jnp.sum(p**2)")
    check_real_leaves("params", params)
    params = jax.tree.map(jnp.asarray, params)
    _, hvp, _ = jax.linearize(jax.grad(checked_loss("fun", fun), has_aux=True), params, has_aux=True)
    leaves, treedef = jax.tree_util.tree_flatten(params)

    def entry(leaf_index: int, i: jax.Array) -> jax.Array:
        unit = [jnp.zeros(leaf.size, leaf.dtype) for leaf in leaves]
        unit[leaf_index] = unit[leaf_index].at[i].set(1)
        tangent = jax.tree.unflatten(treedef, [u.reshape(leaf.shape) for u, leaf in zip(unit, leaves, strict=True)])
        return jax.tree.leaves(hvp(tangent))[leaf_index].ravel()[i]

    diag = [
        jax.lax.map(functools.partial(entry, index), jnp.arange(leaf.size)).reshape(leaf.shape)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, diag)


def gradient_and_product(
    loss: Loss, params: Any, vector: Any, hvp: Hvp, more_follow: bool = False
) -> tuple[tuple[Any, Any], Any, Any, Callable[[Any], Any]]:
    """``(value, aux)``, the gradient, ``H v``, and a function for further vectors, from one trace of the loss."""

    def gradient(p: Any) -> tuple[Any, tuple[Any, Any]]:
        value_and_aux, grads = jax.value_and_grad(loss, has_aux=True)(p)
        return grads, value_and_aux

    if hvp == "reverse_over_reverse":
        grads, pullback, value_and_aux = jax.vjp(gradient, params, has_aux=True)
        return value_and_aux, grads, pullback(vector)[0], lambda v: pullback(v)[0]  # H is symmetric: v^T H = H v
    try:
        grads, product, value_and_aux, product_along = _pushforward(gradient, params, vector, more_follow)
    except Exception as error:
        if not _can_be_traced(gradient, params):
            raise  # the loss has no gradient either: its own error passes as it is
        _check_same_types(params, vector)
        raise TypeError(f"{_CANNOT_PUSH} JAX said: {error}") from error
    if leaves_a_custom_vjp(product, lambda p, v: jax.jvp(gradient, (p,), (v,), has_aux=True)[1], params, vector):
        raise TypeError(_CANNOT_PUSH)
    return value_and_aux, grads, product, product_along


def _check_same_types(params: Any, vector: Any) -> None:
    """Raises where a vector cannot be a tangent of the parameters: inside of shard_map types say what varies."""
    for (path, p), v in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(vector), strict=True):
        types = [str(jax.typeof(leaf)).removeprefix("~") for leaf in (p, v)]  # "~" marks a weak dtype
        if types[0] != types[1]:
            raise ValueError(
                f"`params{jax.tree_util.keystr(path)}` is {types[0]} and its tangent {types[1]}; they must agree. "
                "Give each leaf of `vector` the dtype of its parameter. Where {V:...} differs, the parameters are "
                "varying over a mapped axis and the key is not, so that every device would draw the same signs for "
                "its own part: map the loss alone with `jax.shard_map`, gather in it, and estimate outside."
            )


def _can_be_traced(fun: Callable[..., Any], *args: Any) -> bool:
    try:
        jax.eval_shape(fun, *args)
    except Exception:  # noqa: BLE001 - whatever the caller's function raises
        return False
    return True


def _pushforward(
    gradient: Callable[[Any], Any], params: Any, vector: Any, more_follow: bool
) -> tuple[Any, Any, tuple[Any, Any], Callable[[Any], Any]]:
    """The gradient, its directional derivative, what it carries along, and further directional derivatives."""
    if more_follow:
        try:
            grads, pushforward, aux = jax.linearize(gradient, params, has_aux=True)
            return grads, pushforward(vector), aux, pushforward
        except Exception:  # noqa: BLE001 - what jvp cannot pass either is raised below
            pass
    grads, product, aux = jax.jvp(gradient, (params,), (vector,), has_aux=True)
    return grads, product, aux, lambda v: jax.jvp(gradient, (params,), (v,), has_aux=True)[1]
