"""A character transformer on the texts of Python's own documentation."""

from __future__ import annotations

import pydoc_data.topics

import jax
import numpy as np

from benchmarks.models import transformer
from benchmarks.quality.task import Data, Task

LENGTH = 32
EVALUATED = 256  # windows of the validation and of the test part


def task() -> Task:
    """Two layers of width 64; mean cross-entropy of a character. The last two tenths of the text are kept apart."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet, tokens = np.unique(list(text), return_inverse=True)
    train, validation, test = np.split(np.int32(tokens), [len(tokens) * 8 // 10, len(tokens) * 9 // 10])

    def model(key: jax.Array):
        return transformer(batch_size=1, length=LENGTH, vocab=len(alphabet), heads=4, key=key)

    def windows(tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return tokens[starts[:, None] + np.arange(LENGTH + 1)[None]]

    def spread(tokens: np.ndarray) -> np.ndarray:
        return windows(tokens, np.linspace(0, len(tokens) - LENGTH - 1, EVALUATED).astype(int))

    def loss_fn(params, batch) -> jax.Array:
        return model(jax.random.key(0)).loss_fn(params, batch)  # what is drawn besides is never computed

    def batch_at(rng: np.random.Generator) -> np.ndarray:
        return windows(train, rng.integers(len(train) - LENGTH, size=8))

    data = Data(batch_at, spread(validation), spread(test))
    return Task(
        title="Character transformer, help texts",
        init=lambda key: model(key).params,
        loss_fn=loss_fn,
        data=lambda seed: data,
        measure=loss_fn,
        metric="cross-entropy per character",
        steps=500,
    )
