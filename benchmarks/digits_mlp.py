"""The digits MLP: a small problem with real data, trained as a whole in one compiled program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import optax_adahessian as oah

SIZES = (64, 64, 64, 10)


class Data(NamedTuple):
    """Images as rows of 64 pixels in [0, 1], and their labels."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]


def load(seed: int) -> Data:
    """1,437 digits to train on and 360 to test on."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x, y = jnp.asarray(digits.data[order] / 16, jnp.float32), jnp.asarray(digits.target[order])
    return Data((x[:-360], y[:-360]), (x[-360:], y[-360:]))


def init(seed: int) -> Any:
    """Weights in the layout (in, out)."""
    keys = jax.random.split(jax.random.key(seed), len(SIZES) - 1)
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


def final_loss(tx: optax.GradientTransformation, *, steps: int = 400, batch_size: int = 128, seed: int = 0) -> float:
    """The test loss after training with `tx`, which is fed by `obj_fn`."""
    data, params = load(seed), init(seed)
    tx = optax.with_extra_args_support(tx)
    rows = jax.random.randint(jax.random.key(seed), (steps, batch_size), 0, len(data.train[1]))

    def step(carry: Any, row: jax.Array) -> Any:
        params, state = carry
        batch = data.train[0][row], data.train[1][row]
        grads = jax.grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params, obj_fn=lambda p: loss_fn(p, batch))
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, rows))((params, tx.init(params)))
    return float(loss_fn(params, data.test))


def cosine(peak: float, steps: int = 400) -> Any:
    """A cosine schedule from `peak` to 0."""
    return optax.cosine_decay_schedule(peak, steps)


def adahessian(interval: int, dense_start: int, *, rows: bool, peak: float = 0.1) -> optax.GradientTransformation:
    """AdaHessian as the studies of this problem use it."""
    average = oah.SpatialAverage.rows("HWIO") if rows else oah.SpatialAverage.none()
    return oah.adahessian(cosine(peak), update_interval=interval, dense_start=dense_start, spatial_average=average)
