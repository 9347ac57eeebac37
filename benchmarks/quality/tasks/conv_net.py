"""A convolutional network on scikit-learn's digits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import cross_entropy, normal
from benchmarks.quality.task import Task, splits
from benchmarks.quality.tasks.layers import dense, digits, init_dense


def _init(key: jax.Array) -> Any:
    keys = jax.random.split(key, 3)
    return {
        "convolutions": [
            {"kernel": normal(keys[0], 3, 3, 1, 8), "bias": jnp.zeros(8)},
            {"kernel": normal(keys[1], 3, 3, 8, 16), "bias": jnp.zeros(16)},
        ],
        "dense": init_dense(keys[2], (4 * 4 * 16, 32, 10)),
    }


def _loss(params: Any, batch: Any) -> jax.Array:
    images, labels = batch
    x = images.reshape(-1, 8, 8, 1)
    for layer, stride in zip(params["convolutions"], (1, 2), strict=True):
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.silu(x + layer["bias"][None, None, None])
    return cross_entropy(dense(params["dense"], x.reshape(len(x), -1), jax.nn.silu), labels)


def task() -> Task:
    """Two 3 x 3 convolutions, the second with stride 2, and two dense layers, SiLU; mean cross-entropy."""
    return Task(
        title="Convolutional net, digits",
        init=_init,
        loss_fn=_loss,
        data=splits(128, *digits()),
        measure=_loss,
        metric="cross-entropy",
        steps=250,
        repeats=16,
    )
