"""Checks of arguments: each error names the argument, shows its value, states the rule and the remedy."""

from __future__ import annotations

import math
import numbers
from typing import Any

import jax
import numpy as np


def concrete_number(name: str, value: Any) -> int | float | None:
    """The Python number behind `value`, or None where only a trace knows it.

    Concrete 0-d arrays count as numbers, since `optax.inject_hyperparams` makes them of every numeric argument.
    """
    if isinstance(value, jax.core.Tracer):
        if value.ndim or jax.numpy.iscomplexobj(value):
            raise TypeError(
                f"`{name}` must be a real number or a 0-d array of one, got a traced {value.dtype.name}"
                f"{list(value.shape)}. Pass one number; `jax.vmap` tries several."
            )
        return None
    if isinstance(value, (jax.Array, np.ndarray, np.generic)) and np.ndim(value) == 0:
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` (={value!r}) must be a real number or a 0-d array of one, "
            f"got {type(value).__name__}. Pass a number."
        )
    return value  # type: ignore[return-value]


def check_unit_interval(name: str, value: Any, *, closed: bool) -> None:
    """Raises unless 0 <= value < 1, or <= 1 if `closed`."""
    number = concrete_number(name, value)
    if number is None or 0 <= number < 1 or (closed and number == 1):
        return
    remedy = "Choose a value between 0 and 1."
    if number == 1 and getattr(value, "dtype", None) in (jax.numpy.bfloat16, jax.numpy.float16):
        remedy = (
            f"It was rounded to 1 in {value.dtype.name}: pass `hyperparam_dtype=jnp.float32` to "
            "`optax.inject_hyperparams`."
        )
    raise ValueError(f"`{name}` (={number!r}) must lie in [0, 1{']' if closed else ')'}. {remedy}")


def check_non_negative(name: str, value: Any) -> None:
    """Raises unless 0 <= value < infinity."""
    number = concrete_number(name, value)
    if number is not None and not 0 <= number < float("inf"):
        raise ValueError(f"`{name}` (={number!r}) must be finite and at least 0. Pass 0 to switch it off.")


def check_positive(name: str, value: Any) -> None:
    """Raises unless 0 < value < infinity."""
    number = concrete_number(name, value)
    if number is not None and not 0 < number < float("inf"):
        raise ValueError(f"`{name}` (={number!r}) must be finite and above 0. Pass None to switch it off.")


def check_finite(name: str, value: Any) -> None:
    """Raises unless `value` is a finite number."""
    number = concrete_number(name, value)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"`{name}` (={number!r}) must be finite. Pass e.g. 0.1.")


def check_callable(name: str, fun: Any, example: str) -> None:
    """Raises unless `fun` can be called."""
    if not callable(fun):
        raise TypeError(f"`{name}` (={fun!r}) must be a function. Pass e.g. `{example}`.")


def check_integer(name: str, value: Any, *, minimum: int) -> None:
    """Raises unless `value` is an integer (of any integer dtype) and at least `minimum`."""
    if isinstance(value, jax.core.Tracer):
        if value.ndim or not jax.numpy.issubdtype(value.dtype, jax.numpy.integer):
            raise TypeError(
                f"`{name}` must be an integer, got a traced {value.dtype.name}{list(value.shape)}. Pass an integer."
            )
        return
    try:
        number = concrete_number(name, value)
    except TypeError:
        number = None
    if not isinstance(number, numbers.Integral):
        raise TypeError(f"`{name}` (={value!r}) must be an integer. Pass one, e.g. {minimum + 9}.")
    if number < minimum:
        raise ValueError(f"`{name}` (={number!r}) must be at least {minimum}. Pass e.g. {minimum + 9}.")


def check_static_integer(name: str, value: Any, *, minimum: int) -> None:
    """Raises unless `value` is a Python integer and at least `minimum`: the program's structure depends on it."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"`{name}` (={value!r}) decides the structure of the program and must be a Python integer, "
            "not a traced value. Pass it outside of `jax.jit`."
        )
    check_integer(name, value, minimum=minimum)


def check_floating_dtype(name: str, dtype: Any) -> Any:
    """The dtype JAX makes of `dtype`, None for None; raises unless it is real and floating."""
    if dtype is None:
        return None
    try:
        canonical = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        canonical = None
    if canonical is None or not jax.numpy.issubdtype(canonical, jax.numpy.floating):
        raise TypeError(f"`{name}` (={dtype!r}) must be a floating-point dtype. Pass e.g. jnp.bfloat16.")
    return canonical


def check_flag(name: str, value: Any) -> None:
    """Raises unless `value` is a Python bool."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` (={value!r}) must be True or False, a Python bool.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(map(repr, choices))}.")


def check_axis_name(name: str, value: Any) -> None:
    """Raises unless `value` is None, a name or a tuple of names."""
    names = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(isinstance(axis, str) for axis in names):
        raise TypeError(
            f"`{name}` (={value!r}) must be the name of a mapped axis, or a tuple of names. Pass e.g. 'data'."
        )


def is_mask(mask: Any) -> bool:
    """Whether `mask` is None, a function, or a container of bools that the program's structure can depend on."""

    def is_concrete_bool(leaf: Any) -> bool:
        if isinstance(leaf, jax.Array):
            return leaf.dtype == bool and not isinstance(leaf, jax.core.Tracer)
        return isinstance(leaf, (bool, np.bool_))

    return (
        mask is None or callable(mask) or (type(mask) is not bool and all(map(is_concrete_bool, jax.tree.leaves(mask))))
    )


def check_state(state: Any, expected: type) -> None:
    """Raises unless `state` is of the type that `init` returns."""
    if not isinstance(state, expected):
        raise TypeError(
            f"`state` (of type {type(state).__name__}) must be the {expected.__name__} that `init` of the same "
            "transformation returned. Pass that one; a chain's state goes to the `update` of the chain."
        )


def check_real_leaves(name: str, tree: Any) -> None:
    """Raises unless every leaf is a real floating-point array: others have no Hessian here."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"`{name}{jax.tree_util.keystr(path)}`"
        try:
            dtype = jax.numpy.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"{where} (={leaf!r}) must be an array of real floating-point numbers. "
                "Keep what is not trained outside of the parameters, e.g. in a second argument."
            ) from error
        if not jax.numpy.issubdtype(dtype, jax.numpy.floating):
            raise TypeError(
                f"{where} has dtype {dtype.name}; only real floating-point leaves can be differentiated twice here. "
                "Keep integers outside of the trained parameters (`optax.masked`, `equinox.partition`); store a "
                "complex parameter as its real and imaginary parts."
            )


def check_like(name: str, tree: Any, params: Any, like: str = "the parameters") -> None:
    """Raises unless `tree` has the structure and the shapes of `params`, naming the first leaf that differs."""
    expected = dict(jax.tree_util.tree_leaves_with_path(params))
    given = dict(jax.tree_util.tree_leaves_with_path(tree))
    for path in [*expected, *given]:
        leaf = f"{name}{jax.tree_util.keystr(path)}"
        remedy = f"`{name}` must have the structure and the shapes of {like}."
        if path not in given:
            raise ValueError(f"`{leaf}` is missing, with shape {np.shape(expected[path])} in the parameters. {remedy}")
        if path not in expected:
            raise ValueError(f"`{leaf}` (of shape {np.shape(given[path])}) has no counterpart. {remedy}")
        if np.shape(given[path]) != np.shape(expected[path]):
            raise ValueError(
                f"`{leaf}` has shape {np.shape(given[path])}, the parameter {np.shape(expected[path])}. {remedy}"
            )
    structure: Any = jax.tree.structure(tree)
    if structure != jax.tree.structure(params):
        raise ValueError(
            f"`{name}` has the structure {structure}, the parameters {jax.tree.structure(params)}. "
            f"`{name}` must be a pytree of the same containers."
        )
