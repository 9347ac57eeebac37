"""The words of an expression of x and y."""

from __future__ import annotations

import re
from typing import NamedTuple

# numpy's and jax.numpy's name of each function.
FUNCTIONS = {
    **{name: name for name in ("abs", "cos", "cosh", "exp", "log", "sin", "sinh", "sqrt", "tan", "tanh")},
    "acos": "arccos",
    "asin": "arcsin",
    "atan": "arctan",
}
CONSTANTS = {"e": 2.718281828459045, "pi": 3.141592653589793}
ALLOWED = f"Allowed are numbers, x, y, + - * / ** ^ ( ), and {', '.join(sorted((*FUNCTIONS, *CONSTANTS)))}."

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<symbol>\*\*|[-+*/^()]))",
    re.ASCII,
)


class ExpressionError(ValueError):
    """A text that is not a function of x and y."""

    def __init__(self, text: str, column: int, message: str) -> None:
        super().__init__(f"{text!r}, column {column}: {message}")


class Token(NamedTuple):
    kind: str  # "number", "name", "symbol" or "end"
    text: str
    column: int  # counted from 1


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, the last of kind "end"; raises ExpressionError at the first character of no token."""
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            column = end - len(text[position:end].lstrip()) + 1
            raise ExpressionError(text, column, f"{text[column - 1]!r} is not allowed. {ALLOWED}")
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    return [*tokens, Token("end", "the end", end + 1)]
