"""Whether forward mode can pass a gradient, found while tracing: JAX itself would complain much later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.interpreters import partial_eval


def leaves_a_custom_vjp(product: Any, push: Callable[..., Any], *args: Any) -> bool:
    """Whether ``product = push(*args)`` needs the forward rule that a `custom_vjp` function does not have.

    JAX marks such a tangent by the primitive "custom_lin", which only reverse mode can eliminate, and raises where
    it is evaluated: at once outside of `jax.jit`, in the lowering of the whole step inside of it. Only inside of it
    is there anything to look for, at the price of one more trace of the loss.
    """
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(product)):
        return False
    jaxpr = jax.make_jaxpr(push)(*args).jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return "custom_lin" in _primitive_names(live)


def _primitive_names(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):  # a tuple: the branches of a `lax.cond`
                if hasattr(inner, "eqns"):
                    yield from _primitive_names(inner)
