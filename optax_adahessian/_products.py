"""Products of the Hessian with vectors, and with every unit vector: its exact diagonal."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.flatten_util
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from optax_adahessian._errors import check_like, check_real_leaves, check_type

HvpMode = Literal["forward_over_reverse", "reverse_over_reverse"]
Loss = Callable[[Any], tuple[Any, Any]]  # params -> (scalar, aux)

# JAX's own sentence. Under jit JAX says it when it lowers the program, where no caller of this package can add to it.
_FORWARD_MODE_FAILS = "can't apply forward-mode autodiff (jvp) to a custom_vjp function."
_REMEDY = (
    "Reverse mode can differentiate this loss twice. Pass `hvp='reverse_over_reverse'` to "
    "`value_grad_and_hessian_diag`, or `hessian_diagonal_fn=hutchinson(hvp='reverse_over_reverse')` to the optimizer."
)


def hessian_vector_product(
    fun: Callable[[Any], Any], params: Any, vector: Any, *, hvp: HvpMode = "forward_over_reverse"
) -> Any:
    """The Hessian of `fun` at `params` times a vector, ``H v = d/dt grad fun(params + t v)`` at t = 0.

    It is exact to rounding, does not form H, and costs about two gradients on top of the one that it contains
    (Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6(1), 1994).

    `fun` is a function of `params` alone that returns a real scalar. `params` are real floating-point arrays; `vector`
    and the product have their structure, shapes and dtypes. `hvp` is that of `value_grad_and_hessian_diag`. Raises
    TypeError or ValueError for what does not fit.
    """
    check_real_leaves("params", params)
    check_like("vector", vector, params)
    loss = checked_loss("fun", fun)
    return with_advice(lambda mode, p, v: gradient_and_product(loss, p, v, mode)[2], hvp, params, vector)


def exact_hessian_diag(fun: Callable[[Any], Any], params: Any) -> Any:
    """The exact diagonal of the Hessian of `fun` at `params`, for small problems.

    ``diag(H)_i = e_i^T H e_i``: one Hessian-vector product, of two gradients, for each parameter, one after the other.
    `fun` and `params` are those of `hessian_vector_product`, also in their errors; the result is like `params`.
    """
    check_real_leaves("params", params)
    params = jax.tree.map(jnp.asarray, params)
    _, multiply, _ = jax.linearize(jax.grad(checked_loss("fun", fun), has_aux=True), params, has_aux=True)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def entry(i: jax.Array) -> jax.Array:
        return jax.flatten_util.ravel_pytree(multiply(unravel(jnp.zeros_like(flat).at[i].set(1))))[0][i]

    return unravel(jax.lax.map(entry, jnp.arange(flat.size)))


def checked_loss(name: str, fun: Callable[..., Any], has_aux: bool = False, args: Any = (), kwargs: Any = None) -> Loss:
    """`fun` as a function of the parameters alone that returns ``(scalar, aux)``; `jax.grad` checks what it returns."""
    check_type(name, fun, Callable, f"{name}=lambda params: loss_fn(params, batch)")

    def loss(params: Any) -> tuple[Any, Any]:
        out = fun(params, *args, **(kwargs or {}))
        return out if has_aux else (out, None)

    return loss


def gradient_and_product(
    loss: Loss, params: Any, vector: Any, mode: HvpMode, several: bool = False
) -> tuple[tuple[Any, Any], Any, Any, Any]:
    """``(value, aux)``, the gradient, ``H v``, and for `several` vectors the function ``v -> H v``."""

    def gradient(p: Any) -> tuple[Any, tuple[Any, Any]]:
        value_and_aux, grads = jax.value_and_grad(loss, has_aux=True)(p)
        return grads, value_and_aux

    if mode == "reverse_over_reverse":
        grads, pullback, value_and_aux = jax.vjp(gradient, params, has_aux=True)
        return value_and_aux, grads, pullback(vector)[0], lambda v: pullback(v)[0]  # H is symmetric: v^T H = H v
    if several:  # a loop of jvps would compute the gradient again for each vector
        grads, multiply, value_and_aux = jax.linearize(gradient, params, has_aux=True)
        return value_and_aux, grads, multiply(vector), multiply
    grads, product, value_and_aux = jax.jvp(gradient, (params,), (vector,), has_aux=True)
    return value_and_aux, grads, product, None


def with_advice(fun: Callable[..., Any], hvp: HvpMode, *args: Any) -> Any:
    """``fun(hvp, *args)``; if forward mode cannot differentiate its loss, the error names the other mode if that can.

    Traced, it is a program of its own, whose operations can be searched for the one that JAX cannot lower.
    """
    if hvp not in ("forward_over_reverse", "reverse_over_reverse"):
        raise ValueError(f"`hvp` (={hvp!r}) must be 'forward_over_reverse' or 'reverse_over_reverse'.")
    try:
        # Where JAX traces, a new constant is traced as well, whatever the arguments are.
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in [jnp.zeros([]), *jax.tree.leaves(args)]):
            return fun(hvp, *args)
        program = jax.jit(functools.partial(fun, hvp))
        if _cannot_be_lowered(program.trace(*args).jaxpr):
            raise TypeError(_FORWARD_MODE_FAILS)
        return program(*args)
    except TypeError as error:
        if "forward-mode" in str(error):
            with contextlib.suppress(Exception):  # whatever the loss raises in the other mode
                if not _cannot_be_lowered(jax.make_jaxpr(functools.partial(fun, "reverse_over_reverse"))(*args)):
                    error.add_note(_REMEDY)
        raise


def _cannot_be_lowered(program: Any) -> bool:
    """Whether the outputs of a traced program need a derivative of a `jax.custom_vjp` that forward mode left in it."""

    def contains(jaxpr: Any) -> bool:
        inner = [leaf for eqn in jaxpr.eqns for leaf in jax.tree.leaves(eqn.params) if hasattr(leaf, "eqns")]
        return any(eqn.primitive.name == "custom_lin" for eqn in jaxpr.eqns) or any(map(contains, inner))

    return contains(dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))[0])
