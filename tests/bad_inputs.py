"""Kinds of faults of an argument, and the error that each must get."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from bad_input_calls import KEY, PARAMS, loss_fn

NAN, INF = float("nan"), float("inf")

OTHER_SHAPE = {"layer": {"kernel": jnp.ones((3, 2))}, "bias": jnp.ones(3)}
FEWER = {"layer": {"kernel": jnp.ones((2, 3))}}
MORE = PARAMS | {"extra": jnp.ones(1)}
INTEGERS = jax.tree.map(jnp.int32, PARAMS)
COMPLEX = jax.tree.map(jnp.complex64, PARAMS)
HALF = jax.tree.map(jnp.bfloat16, PARAMS)
TEXT = {"layer": {"kernel": "text"}, "bias": jnp.ones(3)}


class Traced(NamedTuple):
    """A value to be handed in as an argument of a function under `jax.jit`."""

    value: Any


class Bad(NamedTuple):
    """One fault of one argument."""

    function: str
    argument: str
    kind: str
    value: Any
    error: type[Exception] | None  # None: accepted, which only traced values are
    parts: tuple[str, ...]  # of the message, besides the argument's name


def faults(functions: str, argument: str, **kinds: tuple[Any, ...]) -> list[Bad]:
    """The rows of one argument of one or several functions: ``kind=(value, error, *parts of the message)``."""
    return [
        Bad(function, argument, kind, value, error, tuple(parts))
        for function in functions.split()
        for kind, (value, error, *parts) in kinds.items()
    ]


ALLOWED = (Traced(0.5), None)
TREE = {
    "dtype": (INTEGERS, TypeError, "['bias']`", "int32"),
    "complex": (COMPLEX, TypeError, "['bias']`", "complex64", "real and imaginary"),
    "type": (TEXT, TypeError, "['layer']['kernel']`", "'text'"),
}
FUN = {"type": (3.0, TypeError, "(=3.0)", "function"), "traced": (Traced(3.0), TypeError)}
FUN_RESULT = {
    "shape": (lambda p: p["bias"], TypeError, "returned float32[3]", "mean"),
    "dtype": (lambda p: 1, TypeError, "returned", "real scalar"),
    "complex": (lambda p: 1j * loss_fn(p), TypeError, "complex64[]", "real scalar"),
    "tuple": (lambda p: (loss_fn(p), 1), TypeError, "returned a tuple", "has_aux"),
    "none": (lambda p: None, TypeError, "returned a NoneType"),
}
ONE_KEY = {
    "type": (0, TypeError, "(=0)", "jax.random.key(0)"),
    "none": (None, TypeError, "(=None)"),
    "shape": (jax.random.split(KEY), TypeError, "keys[i]"),
    "dtype": (jnp.ones(2), TypeError, "(=float32[2])"),
}
LIKE_PARAMS = {
    "shape": (OTHER_SHAPE, ValueError, "['layer']['kernel']` has shape (3, 2)", "(2, 3)"),
    "missing": (FEWER, ValueError, "['bias']` is missing"),
    "more": (MORE, ValueError, "['extra']`", "no counterpart"),
    "tree": ([1.0], ValueError),
    "none": (None, ValueError),
}
UNIT = {
    "type": ("0.9", TypeError, "(='0.9')", "number"),
    "none": (None, TypeError),
    "bool": (True, TypeError, "(=True)"),
    "shape": (jnp.ones(2), TypeError, "0-d"),
    "dtype": (0.5j, TypeError),
    "negative": (-0.1, ValueError, "(=-0.1)"),
    "range": (1.5, ValueError, "(=1.5)"),
    "array": (jnp.float32(1.5), ValueError, "(=1.5)"),
    "numpy": (np.float64(1.5), ValueError, "(=1.5)"),
    "nan": (NAN, ValueError, "(=nan)"),
    "traced": ALLOWED,
    "traced shape": (Traced(np.ones(2)), TypeError, "0-d"),
}
RATE = {
    "type": ("fast", TypeError, "(='fast')"),
    "none": (None, TypeError),
    "bool": (True, TypeError),
    "shape": (jnp.ones(2), TypeError, "0-d"),
    "dtype": (0.5j, TypeError),
    "nan": (NAN, ValueError, "(=nan)"),
    "range": (INF, ValueError, "finite"),
    "traced": ALLOWED,
    "traced shape": (Traced(np.ones(2)), TypeError, "0-d"),
}
NON_NEGATIVE = RATE | {"range": (INF, ValueError, "finite"), "negative": (-1e-8, ValueError, "(=-1e-08)", "at least 0")}
POSITIVE_OR_NONE = {kind: fault for kind, fault in RATE.items() if kind != "none"} | {
    "zero": (0.0, ValueError, "(=0.0)", "above 0", "None"),
    "negative": (-0.1, ValueError, "(=-0.1)"),
}


def integer(minimum: int, traced: Any = TypeError) -> dict[str, tuple[Any, ...]]:
    """Faults of an integer from `minimum`."""
    return {
        "type": ("3", TypeError, "(='3')", "integer"),
        "none": (None, TypeError),
        "bool": (True, TypeError),
        "dtype": (2.5, TypeError, "(=2.5)", "integer"),
        "shape": (jnp.arange(2), TypeError),
        "range": (minimum - 1, ValueError, f"(={minimum - 1})", f"at least {minimum}"),
        "array": (jnp.int32(-3), ValueError, "(=-3)"),
        "traced": (Traced(3), traced),
        "traced dtype": (Traced(2.5), TypeError),
    }


FLAG = {"type": (1, TypeError, "(=1)", "True or False"), "traced": (Traced(True), TypeError)}
HVP = {
    "type": (None, ValueError),
    "range": ("forward", ValueError, "'reverse_over_reverse'"),
    "traced": (Traced(1), ValueError),
}
KERNEL = {
    "type": (["HWIO"], ValueError, "(=['HWIO'])"),
    "none": (None, ValueError, "(=None)"),
    "range": ("NHWC", ValueError, "(='NHWC')", "'HWIO'", "'OIHW'"),
    "order": ("IOHW", ValueError, "(='IOHW')"),
    "traced": (Traced(1), ValueError),
}
