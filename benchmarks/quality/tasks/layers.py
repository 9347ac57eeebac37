"""Dense layers, and what is measured at their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from benchmarks.models import normal


def init_dense(key: jax.Array, sizes: Sequence[int]) -> list[Any]:
    """Layers in the layout (in, out)."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"kernel": normal(key, n, m), "bias": jnp.zeros(m)}
        for key, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def dense(layers: list[Any], x: jax.Array, activation: Callable[[jax.Array], jax.Array] = jnp.tanh) -> jax.Array:
    """The layers with an activation between them."""
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"][None]
        x = activation(x) if i < len(layers) - 1 else x
    return x


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 8 x 8 pixels in [0, 1], as rows of 64, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return np.float32(images / 16), np.int32(labels)
