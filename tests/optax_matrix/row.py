"""A row of the matrix: one combination with optax, and what comes of it in either way of feeding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

TRIED = {"optax": "0.2.8", "jax": "0.10.2"}  # the versions whose refusals are recorded here

Way = Literal["obj_fn", "hessian_diag"]
WAYS: tuple[Way, ...] = ("obj_fn", "hessian_diag")


class Outcome(NamedTuple):
    """A word for the table, and the pattern of the error that must come, if any."""

    word: str
    error: str | None = None


WORKS = Outcome("works")
NO_CELL = Outcome("")  # the combination is not about this way of feeding


def refuses(error: str) -> Outcome:
    """The error names the way out."""
    return Outcome("refuses", error)


def impossible(error: str) -> Outcome:
    """Optax raises before the arguments reach us."""
    return Outcome(f"impossible in optax {TRIED['optax']}", error)


class Row(NamedTuple):
    """`check(way)` passes where the outcome is `WORKS`, and raises the outcome's error otherwise."""

    combination: str
    obj_fn: Outcome
    hessian_diag: Outcome
    check: Callable[[Way], None]

    @property
    def remark(self) -> str:
        return " ".join((self.check.__doc__ or "").split())


def row(combination: str, obj_fn: Outcome = WORKS, hessian_diag: Outcome = WORKS) -> Callable[..., Row]:
    """Makes a row of a check, whose docstring is the remark."""
    return lambda check: Row(combination, obj_fn, hessian_diag, check)
