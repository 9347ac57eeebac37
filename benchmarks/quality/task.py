"""What a task is, and the parts of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Task(NamedTuple):
    """A model with its data in three parts. Settings are chosen on `validation`, results are reported on `test`."""

    title: str
    init: Callable[[jax.Array], Any]  # parameters from a key
    loss_fn: Callable[[Any, Any], jax.Array]  # loss_fn(params, batch), which is trained
    batch_at: Callable[[np.random.Generator], Any]  # a random batch of the training part
    measure: Callable[[Any, Any], jax.Array]  # measure(params, part), which is reported
    metric: str  # its name and unit
    validation: Any
    test: Any
    steps: int  # of AdamW; its seconds are what every optimizer gets
    repeats: int = 1  # times the number of seeds, where one setting's runs differ more than the optimizers do


def three_parts(*arrays: np.ndarray) -> tuple[Any, Any, Any]:
    """A random 60% to train on, 20% to choose settings on and 20% to report, the same in every run."""
    order = np.random.default_rng(0).permutation(len(arrays[0]))
    first, second = len(order) * 6 // 10, len(order) * 8 // 10
    train, validation, test = np.split(order, [first, second])
    return tuple(tuple(array[rows] for array in arrays) for rows in (train, validation, test))


def sampler(train: Any, batch_size: int) -> Callable[[np.random.Generator], Any]:
    """Batches of random examples, none twice in a batch."""

    def batch_at(rng: np.random.Generator) -> Any:
        rows = rng.choice(len(train[0]), batch_size, replace=False)
        return tuple(array[rows] for array in train)

    return batch_at
