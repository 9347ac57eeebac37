"""The losses of the recorded runs, rebuilt from the formulas in tests/golden/cases.json, in PyTorch's layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import cross_entropy

Params = dict[str, jax.Array]


def loss_fn(case: dict[str, Any], data: dict[str, Any], dtype: Any) -> Callable[[Params], jax.Array]:
    """The loss of a case as a function of its parameters; `data` are its recorded arrays."""
    arrays = {name: jnp.asarray(data[f"data/{name}"], None if name == "y" else dtype) for name in case["data"]}
    return _PROBLEMS[case["problem"]["kind"]](case["problem"], **arrays)


def _poly_sin_2d(numbers: dict[str, Any]) -> Callable[[Params], jax.Array]:
    a, b, c, s, w = (numbers[name] for name in "abcsw")

    def loss(params: Params) -> jax.Array:
        v = params["v"]
        return a * v[0] ** 2 + b * v[1] ** 2 + c * v[0] * v[1] + s * jnp.sum(jnp.sin(w * v) ** 2)

    return loss


def _rosenbrock_2d(numbers: dict[str, Any]) -> Callable[[Params], jax.Array]:
    a, b = numbers["a"], numbers["b"]

    def loss(params: Params) -> jax.Array:
        v = params["v"]
        return (a - v[0]) ** 2 + b * (v[1] - v[0] ** 2) ** 2

    return loss


def _mlp(numbers: dict[str, Any], x: jax.Array, y: jax.Array) -> Callable[[Params], jax.Array]:
    del numbers

    def loss(params: Params) -> jax.Array:
        hidden = jnp.tanh(_dense(x, params["w1"], params["b1"]))
        return cross_entropy(_dense(hidden, params["w2"], params["b2"]), y)

    return loss


def _convnet(numbers: dict[str, Any], x: jax.Array, y: jax.Array) -> Callable[[Params], jax.Array]:
    padding = [(numbers["padding"], numbers["padding"])] * 2

    def loss(params: Params) -> jax.Array:
        maps = jax.lax.conv_general_dilated(
            x, params["cw"], (1, 1), padding, dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        maps = jnp.tanh(maps + params["cb"][None, :, None, None])
        features = jnp.mean(maps, axis=(2, 3)) if numbers["pool"] == "global_mean" else _mean_pool(maps)
        return cross_entropy(_dense(features, params["fw"], params["fb"]), y)

    return loss


def _lowrank_sin(
    numbers: dict[str, Any],
    B: jax.Array,
    c: jax.Array,
    l: jax.Array,  # noqa: E741 - the formula's own name
) -> Callable[[Params], jax.Array]:
    def loss(params: Params) -> jax.Array:
        u = jnp.concatenate([leaf.ravel() for leaf in params.values()])
        quadratic = jnp.sum((B.T @ u) ** 2) / (2 * numbers["rank"])
        return quadratic + jnp.sum(c * jnp.sin(u)) + jnp.sum(l * u)

    return loss


def _dense(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    return x @ weight.T + bias[None]


def _mean_pool(maps: jax.Array) -> jax.Array:
    """Means of 2 x 2 with an odd remainder dropped, flattened in C, H, W order."""
    n, channels, height, width = maps.shape
    tiles = maps[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, channels, height // 2, 2, width // 2, 2)
    return jnp.mean(tiles, axis=(3, 5)).reshape(n, -1)


_PROBLEMS: dict[str, Callable[..., Callable[[Params], jax.Array]]] = {
    "poly_sin_2d": _poly_sin_2d,
    "rosenbrock_2d": _rosenbrock_2d,
    "mlp": _mlp,
    "convnet": _convnet,
    "lowrank_sin": _lowrank_sin,
}
