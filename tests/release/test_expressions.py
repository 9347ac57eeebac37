"""Expressions of x and y: their values, and that nothing else is read, let alone run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adahessian.analysis import ExpressionError, parse_expression
from optax_adahessian.analysis.surfaces import FUNCTIONS, MAX_LENGTH

X, Y = 0.3, -0.7

VALUES = {
    "x - y - 1": (X - Y) - 1,
    "x / y / 2": X / Y / 2,
    "-x**2": -(X**2),
    "x^2^3": X**8,
    "-x - -y + +1": -X + Y + 1,
    "1.5e2*x*pi + .5 + 2.*(y + (e))": 150 * X * math.pi + 0.5 + 2 * (Y + math.e),
    "5*x^2 + 0.5*sin(5*y)**2": 5 * X**2 + 0.5 * math.sin(5 * Y) ** 2,
    **{f"{name}(x)": getattr(math, name, abs)(X) for name in FUNCTIONS},
}


@pytest.mark.parametrize(("text", "expected"), VALUES.items())
def test_value(text: str, expected: float) -> None:
    with jax.enable_x64(True):
        value = jax.jit(parse_expression(text))(jnp.array([X, Y]))
        assert value.shape == ()
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_derivatives_of_integer_powers_are_exact_at_zero() -> None:
    fun = parse_expression("x**2 + 5*y**2 + x*y + x**(3 - 1)*y^4")
    np.testing.assert_array_equal(jax.hessian(fun)(jnp.zeros(2)), [[2, 1], [1, 10]])


# Texts by the message that refuses them.
REFUSED = {
    "is not known. Allowed are numbers, x, y": ["eval(x)", "x.__class__", "x or y", "2j*x", "sin(x)(y)", "sin(*x)"],
    "is not allowed. Allowed are numbers, x, y": ["__import__('os').system('true')", "x[0]", "lambda: x", "x; y"],
    "Write products with a star, 2*x": ["2x", "x y"],
    "column 1: this cannot be read": ["", "(x"],
    "column 5: 'v' is not known": ["x + v"],
    "depends on neither x nor y": ["3 + pi"],
    "the exponent (=1e+10) must be between -100 and 100": ["x + 10**10**10", "x**1e10"],
    "this constant must be real, finite and at most 1e+100": ["x + 1e999", "x + 1/0", "x + sqrt(-1)"],
    "has 305 characters; at most 300": ["x + " + 150 * "(" + "y" + 150 * ")"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message: str) -> None:
    for text in REFUSED[message]:
        with pytest.raises(ExpressionError) as raised:
            parse_expression(text)
        assert message in str(raised.value), text


# The deepest expressions that are read, and their derivatives to x at (0, 0).
DEEPEST = {
    (MAX_LENGTH - 1) * "-" + "x": -1,
    "+".join((MAX_LENGTH // 2) * "x"): MAX_LENGTH // 2,
    (MAX_LENGTH // 5 - 1) * "sin(" + "x" + (MAX_LENGTH // 5 - 1) * ")": 1,
}


@pytest.mark.parametrize(("text", "slope"), DEEPEST.items(), ids=["signs", "sum", "functions"])
def test_deepest_nesting_can_be_differentiated(text: str, slope: float) -> None:
    np.testing.assert_allclose(jax.jit(jax.grad(parse_expression(text)))(jnp.zeros(2)), [slope, 0])
