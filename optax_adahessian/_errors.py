"""The few checks whose words are clearer than JAX's: each names the argument, its value, the rule and the remedy."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_number(name: str, value: Any, low: int = 0, high: float = math.inf, closed: bool = False) -> Any:
    """`value`; raises unless low <= value < high (<= high if `closed`) or it is traced.

    A NumPy scalar becomes a Python number: its dtype would promote what it is multiplied with.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    if not isinstance(value, (int, float, jax.Array, np.ndarray, np.generic)) or np.ndim(value):
        raise TypeError(f"`{name}` (={value!r}) must be one real number.")
    number, dtype = np.asarray(value).item(), getattr(value, "dtype", None)
    if not (low <= number < high or (closed and number == high)):
        rounded = number == high and dtype in (jnp.bfloat16, jnp.float16)
        remedy = f" {dtype} rounded it: pass `hyperparam_dtype=jnp.float32` to `optax.inject_hyperparams`."
        interval = f"[{low}, {high:g}{']' if closed else ')'}"
        raise ValueError(f"`{name}` (={number!r}) must be in {interval}.{remedy if rounded else ''}")
    return value if isinstance(value, jax.Array) else number


def as_integer(name: str, value: Any, minimum: int) -> Any:
    """`value`, a NumPy integer as a Python int; raises unless it is an integer of at least `minimum`, or traced."""
    if not jnp.issubdtype(jnp.result_type(value) if hasattr(value, "dtype") else type(value), jnp.integer):
        raise TypeError(f"`{name}` (={value!r}) must be an integer of at least {minimum}.")
    return as_number(name, value, minimum)


def check_type(name: str, value: Any, expected: Any, example: str) -> None:
    """Raises unless `value` is an `expected`."""
    if not isinstance(value, expected):
        raise TypeError(f"`{name}` (={value!r}) must be of type {expected.__name__}. Pass e.g. `{example}`.")


def check_real_leaves(name: str, tree: Any) -> None:
    """Raises unless every leaf is a real floating-point array, for which a Hessian diagonal is defined here."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", np.result_type(type(leaf)))
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"`{name}{jax.tree_util.keystr(path)}` (a {type(leaf).__name__} of dtype {dtype}) must be a real "
                "floating-point array. Keep what is not trained outside of the parameters, or behind `optax.masked`. "
                "Store a complex parameter as its real and imaginary parts."
            )


def check_like(name: str, tree: Any, like: Any, other: str = "the parameter", remedy: str = "") -> None:
    """Raises unless `tree` has the leaves of `like` in their shapes; names the first that differs."""
    both = [jax.tree_util.tree_leaves_with_path(t) for t in (tree, like)]
    given, expected = ({jax.tree_util.keystr(path): f"of shape {np.shape(x)}" for path, x in t} for t in both)
    remedy = remedy or f"`{name}` must have the structure and the shapes of the parameters."
    for path in [*expected, *given]:
        mine, its = given.get(path, "absent"), expected.get(path, "absent")
        if mine != its:
            raise ValueError(f"`{name}{path}` is {mine}, {other} is {its}. {remedy}")
