"""The few checks whose words are clearer than JAX's: each names the argument, its value, the rule and the remedy."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_number(name: str, value: Any, *, high: float = math.inf, closed: bool = False) -> None:
    """Raises unless 0 <= value < high (<= high if `closed`). Traced values, whose number nobody knows yet, pass."""
    if isinstance(value, jax.core.Tracer):
        return
    if not isinstance(value, (int, float, jax.Array, np.ndarray, np.generic)) or np.ndim(value):
        raise TypeError(f"`{name}` (={value!r}) must be one real number. Pass e.g. `{name}=0.5`.")
    number = np.asarray(value).item()
    if 0 <= number < high or (closed and number == high):
        return
    remedy = "Choose a value in that interval."
    if number == high and getattr(value, "dtype", None) in (jnp.bfloat16, jnp.float16):
        remedy = (
            f"It was rounded to {number} in {value.dtype.name}. Pass `hyperparam_dtype=jnp.float32` to "
            "`optax.inject_hyperparams`."
        )
    raise ValueError(f"`{name}` (={number!r}) must be in [0, {high:g}{']' if closed else ')'}. {remedy}")


def check_integer(name: str, value: Any, *, minimum: int) -> None:
    """Raises unless `value` is an integer of at least `minimum`; of a traced one only the dtype is known."""
    if isinstance(value, jax.core.Tracer) and jnp.issubdtype(value.dtype, jnp.integer):
        return
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"`{name}` (={value!r}) must be an integer. Pass e.g. `{name}={minimum + 9}`.") from error
    if number < minimum:
        raise ValueError(f"`{name}` (={number}) must be at least {minimum}. Pass e.g. `{name}={minimum + 9}`.")


def check_type(name: str, value: Any, expected: type, example: str) -> None:
    """Raises unless `value` is an `expected`."""
    if not isinstance(value, expected):
        raise TypeError(f"`{name}` (={value!r}) must be of type {expected.__name__}. Pass e.g. `{name}={example}`.")


def check_function(name: str, fun: Any) -> None:
    """Raises unless `fun` is callable."""
    if not callable(fun):
        raise TypeError(f"`{name}` (={fun!r}) must be a function, e.g. `lambda params: loss_fn(params, batch)`.")


def check_real_leaves(name: str, tree: Any) -> None:
    """Raises unless every leaf is a real floating-point array, for which a Hessian diagonal is defined here."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None) if hasattr(leaf, "shape") else np.result_type(type(leaf))
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"`{name}{jax.tree_util.keystr(path)}` (of {type(leaf).__name__} with dtype {dtype}) must be a real "
                "floating-point array. Keep what is not trained outside of the parameters, or behind `optax.masked`. "
                "Store a complex parameter as its real and imaginary parts."
            )


def check_like(name: str, tree: Any, params: Any) -> None:
    """Raises unless `tree` has the structure and the shapes of `params`; names the first leaf that differs."""
    given, expected = (dict(jax.tree_util.tree_leaves_with_path(t)) for t in (tree, params))
    for path in [*expected, *given]:
        shapes = [np.shape(leaves[path]) if path in leaves else None for leaves in (given, expected)]
        if shapes[0] != shapes[1]:
            shown = ["absent" if shape is None else f"of shape {shape}" for shape in shapes]
            raise ValueError(
                f"`{name}{jax.tree_util.keystr(path)}` is {shown[0]}, the parameter is {shown[1]}. "
                f"`{name}` must have the structure and the shapes of the parameters."
            )
    structures: list[Any] = [jax.tree.structure(tree), jax.tree.structure(params)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"`{name}` has the structure {structures[0]}, the parameters {structures[1]}. The containers must agree."
        )
