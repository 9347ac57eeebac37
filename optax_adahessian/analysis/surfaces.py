"""Functions of two variables: some whose minima are known, others from text that is parsed and never run as Python.

This module does not import JAX, so that the command line can reject a wrong function at once.
"""

from __future__ import annotations

import ast
import difflib
import functools
import math
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax

Point = tuple[float, float]
Window = tuple[float, float, float, float]  # left, right, bottom, top
Term = float | Callable[[Any], Any]  # a constant, or a function of the vector (x, y)

MAX_LENGTH = 300  # bounds the recursion of the resulting function, too
MAX_EXPONENT = 100
MAX_NUMBER = 1e100
FUNCTIONS = ("abs", "acos", "asin", "atan", "cos", "cosh", "exp", "log", "sin", "sinh", "sqrt", "tan", "tanh")
CONSTANTS = {"e": math.e, "pi": math.pi}
ALLOWED = f"Allowed are numbers, x, y, + - * / ** ^ ( ), and {', '.join(sorted((*FUNCTIONS, *CONSTANTS)))}."
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


class ExpressionError(ValueError):
    """A text that is not a function of x and y."""


class Surface(NamedTuple):
    """A function of ``v = (x, y)`` and what is known of it."""

    formula: str
    start: Point = (1.0, 1.0)
    window: Window | None = None  # the part that shows its form
    minima: tuple[Point, ...] = ()  # the global ones, where they are known

    @property
    def fun(self) -> Callable[[jax.Array], jax.Array]:
        """The function, of an array of shape (2,)."""
        return parse_expression(self.formula)


SURFACES = {
    "quadratic": Surface("x**2 + 5*y**2", (1.0, 1.0), (-2.0, 2.0, -2.0, 2.0), ((0.0, 0.0),)),
    "quadratic-mixed": Surface("x**2 + 5*y**2 + x*y", (1.0, 1.0), (-2.0, 2.0, -2.0, 2.0), ((0.0, 0.0),)),
    "rosenbrock": Surface("(1 - x)**2 + 100*(y - x**2)**2", (-1.2, 1.0), (-2.0, 2.0, -1.0, 3.0), ((1.0, 1.0),)),
    "himmelblau": Surface(
        "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",
        (0.0, -1.0),
        (-5.0, 5.0, -5.0, 5.0),
        (
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
    ),
    "noisy-bowl": Surface(
        "x**2 + y**2 + x*y + 0.5*(sin(5*x)**2 + sin(5*y)**2)", (-2.0, -1.0), (-2.5, 2.5, -2.5, 2.5), ((0.0, 0.0),)
    ),
}


def as_surface(text: str) -> Surface:
    """The surface named `text`, or the one that the expression `text` describes."""
    if text in SURFACES:
        return SURFACES[text]
    try:
        parse_expression(text)
    except ExpressionError:
        if not re.fullmatch(r"[A-Za-z][\w-]*", text):
            raise
        close = difflib.get_close_matches(text, SURFACES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        message = f"{text!r} is neither an expression of x and y nor one of {', '.join(SURFACES)}.{hint}"
        raise ExpressionError(message) from None
    return Surface(text.strip())


@functools.lru_cache(maxsize=64)
def parse_expression(text: str) -> Callable[[jax.Array], jax.Array]:
    """The function of a vector ``v = (x, y)`` that `text` describes. The text is parsed, and never run as Python.

    Allowed are numbers, `x`, `y`, `pi`, `e`, the operators ``+ - * / ** ^`` (the last two are both the power),
    parentheses, and the functions abs, acos, asin, atan, cos, cosh, exp, log (natural), sin, sinh, sqrt, tan, tanh.

    Args:
      text: at most 300 characters, with constant exponents of at most 100 in magnitude.

    Returns:
      A function that takes an array of shape (2,) and returns a scalar. The same text gives the same function, so that
      JAX compiles it once.

    Raises:
      ExpressionError: a ValueError that names what is wrong, and the column.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_adahessian.analysis import parse_expression
      >>> float(parse_expression("x^2 + 5*y^2 - x*y")(jnp.array([1.0, 2.0])))
      19.0
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"The expression has {len(text)} characters; at most {MAX_LENGTH} are allowed.")
    parser = _Parser(text.strip().replace("^", "**"))
    term = parser.term(parser.tree())
    if not callable(term):
        raise ExpressionError(f"{text!r} depends on neither x nor y. Write a function of them, e.g. x**2 + 5*y**2.")

    def fun(v: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        return jnp.asarray(term(v))

    return fun


class _Parser(NamedTuple):
    """Python's syntax tree of a text, of which only the nodes named in `term` have a meaning."""

    text: str

    def error(self, offset: int, message: str) -> ExpressionError:
        return ExpressionError(f"{self.text!r}, column {offset + 1}: {message}")

    def tree(self) -> ast.expr:
        if strange := re.search(r"[^\w .+*/()-]", self.text, re.ASCII):
            raise self.error(strange.start(), f"{strange[0]!r} is not allowed. {ALLOWED}")
        try:
            return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            message = f"this cannot be read. Write products with a star, 2*x, and functions with parentheses. {ALLOWED}"
            raise self.error(error.offset - 1 if error.offset else len(self.text), message) from error

    def term(self, node: ast.expr) -> Term:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self.applied(node, float, value)
            case ast.Name(id="x" | "y" as name):
                index = "xy".index(name)
                return lambda v: v[index]
            case ast.Name(id=name) if name in CONSTANTS:
                return CONSTANTS[name]
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return self.applied(node, _OPERATORS[type(op)], self.term(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                first, second = self.term(left), self.term(right)
                if isinstance(op, ast.Pow) and not callable(second):
                    second = self.exponent(right, second)
                return self.applied(node, _OPERATORS[type(op)], first, second)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                return self.applied(node, functools.partial(_call, name), self.term(argument))
        raise self.error(node.col_offset, f"{ast.get_source_segment(self.text, node)!r} is not known. {ALLOWED}")

    def exponent(self, node: ast.expr, value: float) -> float:
        """An integer exponent becomes an integer: then the derivatives at 0 have no 0 * infinity in them."""
        if abs(value) > MAX_EXPONENT:
            limits = f"must be between -{MAX_EXPONENT} and {MAX_EXPONENT}"
            raise self.error(node.col_offset, f"the exponent (={value:g}) {limits}.")
        return int(value) if value.is_integer() else value

    def applied(self, node: ast.expr, function: Callable[..., Any], *terms: Term) -> Term:
        """The function of the terms; its value if they are constants, which must be finite before anything runs."""
        if any(map(callable, terms)):
            return lambda v: function(*[term(v) if callable(term) else term for term in terms])
        try:
            value = function(*terms)
        except (ArithmeticError, ValueError):
            value = math.nan
        if isinstance(value, complex) or not abs(value) <= MAX_NUMBER:
            raise self.error(node.col_offset, f"this constant must be real, finite and at most {MAX_NUMBER:g}.")
        return float(value)


def _call(name: str, argument: Any) -> Any:
    """The function `name` of a constant or of an array of JAX."""
    if name == "abs":
        return abs(argument)
    if isinstance(argument, float):
        return getattr(math, name)(argument)
    import jax.numpy as jnp

    return getattr(jnp, name)(argument)
