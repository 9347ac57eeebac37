"""Interleaved rounds: every row is timed between two blocks of its reference, so that drift hits both alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

MIN_ROUNDS = 3


class Plan(NamedTuple):
    """How often everything is timed."""

    rounds: int = 12
    block_seconds: float = 0.3  # a block takes about as long, in whole multiples of the interval
    row_seconds: float = 30.0  # a row that takes longer in all sits out some of the rounds


class Subject(NamedTuple):
    """What is timed: `train` takes so many steps and waits for the results."""

    train: Callable[[int], None]
    interval: int  # steps after which costs repeat
    reference: str  # the name of the subject that it is compared with


class Times(NamedTuple):
    """One entry for each round that a subject took part in."""

    seconds: np.ndarray  # per step
    ratios: np.ndarray  # to the mean of the blocks of the reference before and after
    steps: int  # of one block


class _Block(NamedTuple):
    steps: int
    milliseconds: int  # expected
    rounds: frozenset[int]


def interleaved(subjects: Mapping[str, Subject], plan: Plan, label: str = "", seed: int = 0) -> dict[str, Times]:
    """Times every subject in shuffled order, in every round those of one reference after the other."""
    blocks = {name: _plan_block(subject, plan) for name, subject in subjects.items()}
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    ratios: dict[str, list[float]] = {name: [] for name in subjects}
    order, references = random.Random(seed), list(dict.fromkeys(subject.reference for subject in subjects.values()))
    with tqdm(total=_total_milliseconds(blocks, subjects, plan.rounds), desc=label, bar_format=_BAR) as bar:

        def timed(name: str) -> float:
            start = time.perf_counter()
            subjects[name].train(blocks[name].steps)
            bar.update(blocks[name].milliseconds)
            return (time.perf_counter() - start) / blocks[name].steps

        for round_number in range(plan.rounds):
            order.shuffle(references)
            for reference in references:
                names = [
                    n for n, s in subjects.items() if s.reference == reference and round_number in blocks[n].rounds
                ]
                order.shuffle(names)
                before = timed(reference)
                for name in names:
                    own, after = timed(name), timed(reference)
                    seconds[name].append(own)
                    ratios[name].append(own / ((before + after) / 2))
                    before = after
    return {n: Times(np.array(seconds[n]), np.array(ratios[n]), blocks[n].steps) for n in subjects}


def quartiles(values: Any) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(q) for q in np.percentile(values, [25, 50, 75])]


_BAR = "{l_bar}{bar}| {elapsed} passed, {remaining} left"


def _plan_block(subject: Subject, plan: Plan) -> _Block:
    """Warms up by one whole interval, whose time tells how many steps and rounds there are time for."""
    start = time.perf_counter()
    subject.train(subject.interval)
    cycle_seconds = time.perf_counter() - start
    cycles = max(1, math.ceil(plan.block_seconds / cycle_seconds))
    affordable = int(plan.row_seconds / (cycles * cycle_seconds))
    rounds = min(plan.rounds, max(MIN_ROUNDS, affordable))
    chosen = frozenset(np.linspace(0, plan.rounds - 1, rounds).round().astype(int).tolist())
    return _Block(cycles * subject.interval, math.ceil(1e3 * cycles * cycle_seconds), chosen)


def _total_milliseconds(blocks: Mapping[str, _Block], subjects: Mapping[str, Subject], rounds: int) -> int:
    """The time of all blocks: each with one of its reference after it, and one of each reference before a round."""
    pairs = sum(
        len(blocks[name].rounds) * (blocks[name].milliseconds + blocks[subject.reference].milliseconds)
        for name, subject in subjects.items()
    )
    return pairs + rounds * sum(blocks[name].milliseconds for name in {s.reference for s in subjects.values()})
