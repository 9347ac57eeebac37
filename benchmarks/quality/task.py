"""What a task is, and the parts of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Data(NamedTuple):
    """Three parts. Settings are chosen on `validation`, results are reported on `test`."""

    batch_at: Callable[[np.random.Generator], Any]  # a random batch of the training part
    validation: Any
    test: Any


class Task(NamedTuple):
    """A model and its data."""

    title: str
    init: Callable[[jax.Array], Any]  # parameters from a key
    loss_fn: Callable[[Any, Any], jax.Array]  # loss_fn(params, batch), which is trained
    data: Callable[[int], Data]  # of a seed
    measure: Callable[[Any, Any], jax.Array]  # measure(params, part), which is reported
    metric: str  # its name and unit
    steps: int  # of AdamW; its seconds are what every optimizer gets
    repeats: int = 1  # times the number of seeds, where one setting's runs differ more than the optimizers do


def splits(batch_size: int, *arrays: np.ndarray) -> Callable[[int], Data]:
    """A fifth to report on, the same for every seed, and of the rest a random quarter to choose settings on.

    So a setting is chosen by the mean over as many validation parts as there are seeds, and not by the whims of one.
    """
    rest, test = np.split(np.random.default_rng(0).permutation(len(arrays[0])), [len(arrays[0]) * 8 // 10])

    def data(seed: int) -> Data:
        train, validation = np.split(np.random.default_rng(seed).permutation(rest), [len(rest) * 3 // 4])

        def batch_at(rng: np.random.Generator) -> Any:
            return of_rows(rng.choice(train, batch_size, replace=False))

        return Data(batch_at, of_rows(validation), of_rows(test))

    def of_rows(rows: np.ndarray) -> Any:
        return tuple(array[rows] for array in arrays)

    return data
