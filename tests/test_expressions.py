"""Expressions of x and y: their values, and that nothing else is read, let alone run."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adahessian.analysis import ExpressionError, parse_expression
from optax_adahessian.analysis.tokens import FUNCTIONS

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
    " \tsin( x ) ": math.sin(X),
    "5*x^2 + 0.5*sin(5*y)**2": 5 * X**2 + 0.5 * math.sin(5 * Y) ** 2,
}


@pytest.mark.parametrize(("text", "expected"), VALUES.items())
def test_value(text: str, expected: float) -> None:
    with jax.enable_x64(True):
        value = jax.jit(parse_expression(text))(jnp.array([X, Y]))
        chex.assert_shape(value, ())
        np.testing.assert_allclose(value, expected, rtol=1e-15)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_python(name: str) -> None:
    reference = abs if name == "abs" else getattr(math, name)
    with jax.enable_x64(True):
        value = parse_expression(f"{name}(x) + 0*y")(jnp.array([X, Y]))
        np.testing.assert_allclose(value, reference(X), rtol=1e-14)
        np.testing.assert_allclose(
            parse_expression(f"x + {name}(0.3)")(jnp.array([0.0, 0.0])), reference(0.3), rtol=1e-14
        )


def test_derivatives_of_integer_powers_are_exact_at_zero() -> None:
    fun = parse_expression("x**2 + 5*y**2 + x*y + x**(3 - 1)*y^4")
    np.testing.assert_array_equal(jax.hessian(fun)(jnp.zeros(2)), [[2, 1], [1, 10]])


REFUSED = {
    "__import__('os').system('true')": 'column 12: "\'" is not allowed',
    "__import__(x)": "'__import__' is not known",
    "x.__class__": r"column 2: '\.' is not allowed",
    "x + v": "'v' is not known",
    "x[0]": r"'\[' is not allowed",
    "lambda: x": "':' is not allowed",
    "lambda x": "'lambda' is not known",
    "x if y else 1": "expected an operator before 'if'",
    "x := 2": "':' is not allowed",
    "x == y": "'=' is not allowed",
    "x; y": "';' is not allowed",
    "'x'": "is not allowed",
    "eval(x)": "'eval' is not known",
    "2x": "expected an operator before 'x'. A product is written with a star",
    "x y": "expected an operator before 'y'",
    "x +": "column 4: expected a number, x, y, a function or '\\(', found 'the end'",
    "": "found 'the end'",
    "   ": "found 'the end'",
    "(x": r"expected '\)' for the '\(' of column 1, found 'the end'",
    "x)": r"expected an operator before '\)'",
    "sin x": r"expected '\(' after 'sin'. Write sin\(x\)",
    "sin(x, y)": "',' is not allowed",
    "x * * y": r"found '\*'",
    "x // y": "found '/'",
    "3 + pi": "depends on neither x nor y",
    "x + 10**10**10": r"the exponent \(=1e\+10\) must lie between -100 and 100",
    "x**1e6": r"the exponent \(=1e\+06\)",
    "x + 1e999": "a number here is inf",
    "x + 9" + 200 * "9": "numbers must be finite and at most 1e\\+100",
    "x + (10**60)**2": "a number here is 1e\\+120",
    "x + 1/0": "a number here is inf",
    "x + sqrt(-1)": "a number here is nan",
    "x + log(0)": "a number here is -inf",
    "x + " + 300 * "(" + "y" + 300 * ")": "at most 400 characters are read, this has 605",
    "x + " + 50 * "(" + "y" + 50 * ")": "nested more than 40 deep",
    50 * "-" + "x": "nested more than 40 deep",
    "x" + 50 * "**y": "nested more than 40 deep",
    50 * "sin(" + "x" + 50 * ")": "nested more than 40 deep",
    "x + \u0662": "is not allowed",
    "x + \0": "is not allowed",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse_expression(text)


def test_longest_sum_can_be_differentiated() -> None:
    terms = 200
    fun = parse_expression("+".join(terms * "x"))
    np.testing.assert_allclose(jax.grad(fun)(jnp.zeros(2)), [terms, 0])


def test_deepest_nesting_can_be_differentiated() -> None:
    depth = 39
    fun = parse_expression(depth * "sin(" + "x" + depth * ")")
    np.testing.assert_allclose(jax.grad(fun)(jnp.zeros(2)), [1, 0])
