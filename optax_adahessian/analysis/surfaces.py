"""Functions of two variables whose minima and Hessians are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adahessian.analysis.expressions import parse_expression

Point = tuple[float, float]
Window = tuple[float, float, float, float]  # left, right, bottom, top


class Surface(NamedTuple):
    """A function of ``v = (x, y)`` and what is known of it."""

    formula: str
    fun: Callable[[jax.Array], jax.Array]  # shape (2,) -> ()
    start: Point = (1.0, 1.0)
    window: Window | None = None  # the part that shows its form
    minima: tuple[Point, ...] = ()  # the global ones, where they are known
    hessian: Callable[[jax.Array], jax.Array] | None = None  # shape (2,) -> (2, 2), derived by hand


def as_surface(text: str) -> Surface:
    """The surface named `text`, or the one that the expression `text` describes."""
    return SURFACES[text] if text in SURFACES else Surface(text, parse_expression(text))


def _surface(
    formula: str,
    hessian: Callable[[jax.Array, jax.Array], list[list[object]]],
    *minima: Point,
    start: Point,
    window: Window,
) -> Surface:
    def matrix(v: jax.Array) -> jax.Array:
        return jnp.array(hessian(v[0], v[1]), dtype=v.dtype)

    return Surface(formula, parse_expression(formula), start, window, minima, matrix)


SURFACES = {
    "quadratic": _surface(
        "x**2 + 5*y**2",
        lambda x, y: [[2, 0], [0, 10]],
        (0.0, 0.0),
        start=(1.0, 1.0),
        window=(-2.0, 2.0, -2.0, 2.0),
    ),
    "quadratic-mixed": _surface(
        "x**2 + 5*y**2 + x*y",
        lambda x, y: [[2, 1], [1, 10]],
        (0.0, 0.0),
        start=(1.0, 1.0),
        window=(-2.0, 2.0, -2.0, 2.0),
    ),
    "rosenbrock": _surface(
        "(1 - x)**2 + 100*(y - x**2)**2",
        lambda x, y: [[2 - 400 * y + 1200 * x**2, -400 * x], [-400 * x, 200]],
        (1.0, 1.0),
        start=(-1.2, 1.0),
        window=(-2.0, 2.0, -1.0, 3.0),
    ),
    "himmelblau": _surface(
        "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",
        lambda x, y: [[12 * x**2 + 4 * y - 42, 4 * (x + y)], [4 * (x + y), 12 * y**2 + 4 * x - 26]],
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
        start=(0.0, -1.0),
        window=(-5.0, 5.0, -5.0, 5.0),
    ),
    "noisy-bowl": _surface(
        "x**2 + y**2 + x*y + 0.5*(sin(5*x)**2 + sin(5*y)**2)",
        lambda x, y: [[2 + 25 * jnp.cos(10 * x), 1], [1, 2 + 25 * jnp.cos(10 * y)]],
        (0.0, 0.0),
        start=(-2.0, -1.0),
        window=(-2.5, 2.5, -2.5, 2.5),
    ),
}
