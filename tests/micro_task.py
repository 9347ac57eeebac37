"""A task for the benchmarks of quality that trains in no time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality.task import Task, splits

STEPS = 20


def micro_task(losses_traced=None):
    """Linear regression with 10 weights and little noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 10)).astype(np.float32)
    y = x @ np.arange(10, dtype=np.float32) + 0.1 * rng.normal(size=100).astype(np.float32)

    def loss_fn(params, batch):
        if losses_traced is not None:
            losses_traced.append(1)
        x, y = batch
        return jnp.mean((x @ params["kernel"] - y) ** 2)

    return Task(
        title="Micro",
        init=lambda key: {"kernel": jax.random.normal(key, (10,))},
        loss_fn=loss_fn,
        data=splits(16, x, y),
        measure=loss_fn,
        metric="squared error",
        steps=STEPS,
    )
