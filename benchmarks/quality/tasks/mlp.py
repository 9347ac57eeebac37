"""A multilayer perceptron on scikit-learn's digits."""

from __future__ import annotations

import jax

from benchmarks.models import cross_entropy
from benchmarks.quality.task import Task, splits
from benchmarks.quality.tasks.layers import dense, digits, init_dense


def task() -> Task:
    """Two hidden layers of 64, tanh; mean cross-entropy."""

    def loss_fn(params, batch) -> jax.Array:
        images, labels = batch
        return cross_entropy(dense(params, images), labels)

    return Task(
        title="MLP, digits",
        init=lambda key: init_dense(key, (64, 64, 64, 10)),
        loss_fn=loss_fn,
        data=splits(128, *digits()),
        measure=loss_fn,
        metric="cross-entropy",
        steps=250,
        repeats=8,
    )
