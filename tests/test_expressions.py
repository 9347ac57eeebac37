"""Expressions of x and y: their values, and that nothing else is read, let alone run."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adahessian.analysis import ExpressionError, parse_expression
from optax_adahessian.analysis.surfaces import FUNCTIONS, MAX_LENGTH

X, Y = 0.3, -0.7

VALUES = {
    "x": X,
    "x + y*2": X + Y * 2,
    "x - y - 1": (X - Y) - 1,
    "x / y / 2": X / Y / 2,
    "-x**2": -(X**2),
    "(-x)**2": X**2,
    "x^2^3": X**8,
    "x**-1": 1 / X,
    "2**x": 2**X,
    "-x - -y + +1": -X + Y + 1,
    "x*(y + (1))": X * (Y + 1),
    "1.5e2*x + .5 + 2.*y": 150 * X + 0.5 + 2 * Y,
    "x*pi + e": X * math.pi + math.e,
    "x**(1/2)": math.sqrt(X),
    "  sin( x ) ": math.sin(X),
    "5*x^2 + 0.5*sin(5*y)**2": 5 * X**2 + 0.5 * math.sin(5 * Y) ** 2,
    **{f"{name}(x) + 0*y": getattr(math, name, abs)(X) for name in FUNCTIONS},
    **{f"0*x + {name}(0.3)": getattr(math, name, abs)(0.3) for name in FUNCTIONS},
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


REFUSED = {
    "__import__('os').system('true')": 'column 12: "\'" is not allowed',
    "__import__(x)": "column 1: '__import__(x)' is not known",
    "x.__class__": "'x.__class__' is not known",
    "x + v": "column 5: 'v' is not known. Allowed are numbers, x, y",
    "x[0]": "column 2: '[' is not allowed",
    "lambda: x": "':' is not allowed",
    "lambda x": "cannot be read",
    "x if y else 1": "'x if y else 1' is not known",
    "x or y": "'x or y' is not known",
    "not x": "'not x' is not known",
    "x := 2": "':' is not allowed",
    "x == y": "'=' is not allowed",
    "x; y": "';' is not allowed",
    "x # y": "'#' is not allowed",
    "x \\\n + y": "'\\\\' is not allowed",
    "'x'": "is not allowed",
    "True*x": "'True' is not known",
    "2j*x": "'2j' is not known",
    "eval(x)": "'eval(x)' is not known",
    "sin(x)(y)": "'sin(x)(y)' is not known",
    "sin(*x)": "'*x' is not known",
    "sin": "'sin' is not known",
    "sin()": "'sin()' is not known",
    "2x": "cannot be read. Write products with a star, 2*x",
    "x y": "column 3: this cannot be read",
    "x +": "column 4: this cannot be read",
    "": "column 1: this cannot be read",
    "   ": "column 1: this cannot be read",
    "(x": "column 1: this cannot be read",
    "x)": "column 2: this cannot be read",
    "sin x": "functions with parentheses",
    "sin(x, y)": "',' is not allowed",
    "x * * y": "cannot be read",
    "x // y": "'x // y' is not known",
    "3 + pi": "depends on neither x nor y",
    "x + 10**10**10": "the exponent (=1e+10) must be between -100 and 100",
    "x**1e6": "column 4: the exponent (=1e+06)",
    "x + 1e999": "column 5: this constant must be real, finite and at most 1e+100",
    "x + " + 200 * "9": "this constant",
    "x + " + 290 * "9": "this constant",
    "x + (10**60)**2": "this constant",
    "x + 1/0": "this constant",
    "x + sqrt(-1)": "this constant",
    "x + (-8)**(1/3)": "this constant",
    "x + log(0)": "this constant",
    "x + " + 250 * "(": "cannot be read",
    "x + " + 150 * "(" + "y" + 150 * ")": "has 305 characters; at most 300",
    "x + \u0662": "is not allowed",
    "\uff58 + y": "is not allowed",
    "x + \0": "is not allowed",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse_expression(text)
    assert message in str(raised.value)


# The value at (0, 0) of the derivative to x of the deepest expressions that are read.
DEEPEST = {
    (MAX_LENGTH - 1) * "-" + "x": -1,
    "+".join((MAX_LENGTH // 2) * "x"): MAX_LENGTH // 2,
    (MAX_LENGTH // 5 - 1) * "sin(" + "x" + (MAX_LENGTH // 5 - 1) * ")": 1,
}


@pytest.mark.parametrize(("text", "slope"), DEEPEST.items(), ids=["signs", "sum", "functions"])
def test_deepest_nesting_can_be_differentiated(text: str, slope: float) -> None:
    np.testing.assert_allclose(jax.jit(jax.grad(parse_expression(text)))(jnp.zeros(2)), [slope, 0])
