"""A deep autoencoder on scikit-learn's digits, the classic of papers on second-order optimizers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.quality.task import Task, splits
from benchmarks.quality.tasks.layers import dense, digits, init_dense

SIZES = (64, 128, 64, 16, 64, 128, 64)


def task() -> Task:
    """Six layers with a code of 16, tanh; the squared error of an image, summed over its pixels."""

    def loss_fn(params, batch) -> jax.Array:
        (images,) = batch
        return jnp.mean(jnp.sum((dense(params, images) - images) ** 2, axis=1))

    return Task(
        title="Deep autoencoder, digits",
        init=lambda key: init_dense(key, SIZES),
        loss_fn=loss_fn,
        data=splits(128, digits()[0]),
        measure=loss_fn,
        metric="squared error per image",
        steps=1500,
    )
