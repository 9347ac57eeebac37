"""Logistic regression on scikit-learn's breast cancer data as they are, with features from thousandths to thousands."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer

from benchmarks.quality.task import Task, splits


def task() -> Task:
    """30 weights and a bias, from zero; mean cross-entropy. Convex, and very badly scaled."""

    def loss_fn(params, batch) -> jax.Array:
        features, labels = batch
        logits = features @ params["kernel"] + params["bias"]
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))

    features, labels = load_breast_cancer(return_X_y=True)
    return Task(
        title="Logistic regression, breast cancer",
        init=lambda key: {"kernel": jnp.zeros(30), "bias": jnp.zeros([])},
        loss_fn=loss_fn,
        data=splits(64, np.float32(features), np.float32(labels)),
        measure=loss_fn,
        metric="cross-entropy",
        steps=2000,
        repeats=8,
    )
