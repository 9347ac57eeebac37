"""The digits MLP: a small problem with real data, trained from several seeds in one compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import optax_adahessian as oah

SIZES = (64, 64, 64, 10)
STEPS = 400
BATCH_SIZE = 128


def load(seed: int) -> tuple[Any, Any]:
    """1,437 digits to train on and 360 to test on: rows of 64 pixels in [0, 1], and labels."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x, y = np.float32(digits.data[order] / 16), digits.target[order]
    return (x[:-360], y[:-360]), (x[-360:], y[-360:])


def init(key: jax.Array) -> Any:
    """Weights in the layout (in, out)."""
    keys = jax.random.split(key, len(SIZES) - 1)
    return [
        {"kernel": jax.random.normal(key, (n, m)) / np.sqrt(n), "bias": jnp.zeros(m)}
        for key, n, m in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """The mean cross-entropy of two tanh layers."""
    x, labels = batch
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
    logits = x @ params[-1]["kernel"] + params[-1]["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def final_losses(tx: optax.GradientTransformation, seeds: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """The test loss of each seed after training with `tx`, which is fed by `obj_fn`."""
    tx = optax.with_extra_args_support(tx)

    def run(key: jax.Array, train: Any, test: Any) -> jax.Array:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, state = carry
            batch = train[0][rows], train[1][rows]
            grads = jax.grad(loss_fn)(params, batch)
            updates, state = tx.update(grads, state, params, obj_fn=lambda p: loss_fn(p, batch))
            return (optax.apply_updates(params, updates), state), None

        params, rows = init(key), jax.random.randint(key, (STEPS, BATCH_SIZE), 0, len(train[1]))
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), rows)
        return loss_fn(params, test)

    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    train, test = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[load(seed) for seed in seeds])
    return np.asarray(jax.jit(jax.vmap(run))(keys, train, test))


def adahessian(
    interval: int,
    dense_start: int,
    spatial_average: oah.SpatialAverage | None = None,
    peak: float = 0.1,
) -> optax.GradientTransformation:
    """AdaHessian as the studies of this problem use it: a cosine schedule from `peak` to 0."""
    return oah.adahessian(
        optax.cosine_decay_schedule(peak, STEPS),
        update_interval=interval,
        dense_start=dense_start,
        spatial_average=spatial_average or oah.SpatialAverage.rows("HWIO"),
    )
