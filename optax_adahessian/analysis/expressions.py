"""Functions of x and y from text: parsed into known operations, never evaluated as Python."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adahessian.analysis.tokens import ALLOWED, CONSTANTS, FUNCTIONS, ExpressionError, Token, tokenize

MAX_LENGTH = 400  # bounds the recursion of the resulting function, too: one frame for each operation
MAX_DEPTH = 40
MAX_EXPONENT = 100
MAX_NUMBER = 1e100

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class _Node(NamedTuple):
    evaluate: Callable[[Any, Any], Any]  # of the vector (x, y) and of the module to compute in: numpy or jax.numpy
    constant: float | None = None  # the value of a node without x and y


def parse_expression(text: str) -> Callable[[jax.Array], jax.Array]:
    """The function of a vector ``v = (x, y)`` that `text` describes.

    Allowed are numbers, `x`, `y`, `pi`, `e`, the operators ``+ - * / ** ^`` (the last two are both the power, which
    binds from right to left and more strongly than a sign), parentheses, and the functions abs, acos, asin, atan,
    cos, cosh, exp, log (natural), sin, sinh, sqrt, tan, tanh.

    Args:
      text: at most 400 characters, nested at most 40 deep, with constant exponents of at most 100 in magnitude.

    Returns:
      A function that takes an array of shape (2,) and returns a scalar; JAX can trace and differentiate it.

    Raises:
      TypeError: if `text` is no text.
      ExpressionError: a ValueError, for anything else; the message names the column.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_adahessian.analysis import parse_expression
      >>> float(parse_expression("x^2 + 5*y^2 - x*y")(jnp.array([1.0, 2.0])))
      19.0
    """
    if not isinstance(text, str):
        raise TypeError(f"`text` (={text!r}) must be a text. Pass e.g. 'x**2 + 5*y**2'.")
    return _parsed(text)


@functools.lru_cache(maxsize=64)  # one function for one text, so that JAX compiles it once
def _parsed(text: str) -> Callable[[jax.Array], jax.Array]:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"{text[:20]}...",
            MAX_LENGTH,
            f"at most {MAX_LENGTH} characters are read, this has {len(text)}. Shorten it.",
        )
    node = _Parser(text).parse()
    if node.constant is not None:
        raise ExpressionError(text, 1, "it depends on neither x nor y. Write a function of them, e.g. x**2 + 5*y**2.")
    return lambda v: jnp.asarray(node.evaluate(v, jnp))


class _Parser:
    """Recursive descent over the tokens of one expression; a method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.depth = 0

    def error(self, token: Token, message: str) -> ExpressionError:
        return ExpressionError(self.text, token.column, message)

    def accept(self, *symbols: str) -> Token | None:
        token = self.tokens[0]
        return self.tokens.pop(0) if token.kind == "symbol" and token.text in symbols else None

    def parse(self) -> _Node:
        node, rest = self.sum(), self.tokens[0]
        if rest.kind != "end":
            raise self.error(rest, f"expected an operator before {rest.text!r}. A product is written with a star: 2*x.")
        return node

    def sum(self) -> _Node:
        node = self.product()
        while token := self.accept("+", "-"):
            node = self.binary(token, _BINARY[token.text], node, self.product())
        return node

    def product(self) -> _Node:
        node = self.factor()
        while token := self.accept("*", "/"):
            node = self.binary(token, _BINARY[token.text], node, self.factor())
        return node

    def factor(self) -> _Node:
        self.depth += 1  # every recursion passes here
        if self.depth > MAX_DEPTH:
            raise self.error(self.tokens[0], f"nested more than {MAX_DEPTH} deep. Write it with fewer levels.")
        if self.accept("+"):
            node = self.factor()
        elif token := self.accept("-"):
            node = self.unary(token, operator.neg, self.factor())
        else:
            node = self.power()
        self.depth -= 1
        return node

    def power(self) -> _Node:
        base = self.atom()
        token = self.accept("**", "^")
        if token is None:
            return base
        exponent = self.factor()
        if exponent.constant is None:
            return self.binary(token, operator.pow, base, exponent)
        value = exponent.constant
        if abs(value) > MAX_EXPONENT:
            raise self.error(token, f"the exponent (={value:g}) must lie between -{MAX_EXPONENT} and {MAX_EXPONENT}.")
        # An integer exponent stays an integer: then the derivatives at 0 have no 0 * infinity in them.
        number = int(value) if value.is_integer() else value
        return self.unary(token, lambda x: x**number, base)

    def atom(self) -> _Node:
        token = self.tokens[0]
        if token.text in FUNCTIONS:
            return self.call()
        if self.accept("("):
            return self.closed(token)
        self.tokens.pop(0)
        if token.kind == "number":
            return self.constant(token, float(token.text))
        if token.text in CONSTANTS:
            return self.constant(token, CONSTANTS[token.text])
        if token.text in ("x", "y"):
            index = "xy".index(token.text)
            return _Node(lambda v, xp: v[index])
        if token.kind == "name":
            raise self.error(token, f"{token.text!r} is not known. {ALLOWED}")
        raise self.error(token, f"expected a number, x, y, a function or '(', found {token.text!r}.")

    def call(self) -> _Node:
        token = self.tokens.pop(0)
        opening = self.accept("(")
        if opening is None:
            raise self.error(self.tokens[0], f"expected '(' after {token.text!r}. Write {token.text}(x).")
        return self.unary(token, FUNCTIONS[token.text], self.closed(opening))

    def closed(self, opening: Token) -> _Node:
        node, end = self.sum(), self.tokens[0]
        if self.accept(")") is None:
            raise self.error(end, f"expected ')' for the '(' of column {opening.column}, found {end.text!r}.")
        return node

    def unary(self, token: Token, function: str | Callable[[Any], Any], node: _Node) -> _Node:
        """A function of one node; by name, where numpy and jax.numpy have one each."""
        inner = node.evaluate
        if isinstance(function, str):
            return self.fold(token, lambda v, xp: getattr(xp, function)(inner(v, xp)), node)
        return self.fold(token, lambda v, xp: function(inner(v, xp)), node)

    def binary(self, token: Token, function: Callable[[Any, Any], Any], left: _Node, right: _Node) -> _Node:
        a, b = left.evaluate, right.evaluate
        return self.fold(token, lambda v, xp: function(a(v, xp), b(v, xp)), left, right)

    def fold(self, token: Token, evaluate: Callable[[Any, Any], Any], *operands: _Node) -> _Node:
        """The node, or its value where no x and y are in it: what is no number is refused before anything runs."""
        if any(operand.constant is None for operand in operands):
            return _Node(evaluate)
        with np.errstate(all="ignore"):
            return self.constant(token, float(evaluate(None, np)))

    def constant(self, token: Token, value: float) -> _Node:
        if not abs(value) <= MAX_NUMBER:
            raise self.error(token, f"a number here is {value:g}; numbers must be finite and at most {MAX_NUMBER:g}.")
        as_numpy = np.float64(value)  # divides by zero without raising
        return _Node(lambda v, xp: as_numpy if xp is np else value, value)
