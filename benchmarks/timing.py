"""Interleaved rounds: every row is timed between two blocks of its reference, so that drift hits both alike."""

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm


class Plan(NamedTuple):
    """How often everything is timed."""

    rounds: int = 12
    block_seconds: float = 0.3  # a block takes about as long, in whole multiples of the interval


class Subject(NamedTuple):
    """What is timed."""

    seconds: Callable[[int], float]  # of so many steps
    interval: int  # steps after which costs repeat
    reference: str  # the name of the subject that it is compared with


class Times(NamedTuple):
    """One entry for each round."""

    steps: int  # of one block
    seconds: list[float]  # per step
    ratios: list[float]  # to the mean of the blocks of the reference before and after


def interleaved(subjects: Mapping[str, Subject], plan: Plan, label: str = "", seed: int = 0) -> dict[str, Times]:
    """Times every subject in shuffled order, in every round those of one reference after the other."""
    times = {name: Times(_block_steps(subject, plan), [], []) for name, subject in subjects.items()}
    order, references = random.Random(seed), list(dict.fromkeys(subject.reference for subject in subjects.values()))

    def seconds_of(name: str) -> float:
        return subjects[name].seconds(times[name].steps) / times[name].steps

    for _ in tqdm(range(plan.rounds), desc=label, unit="round", disable=not label):
        order.shuffle(references)
        for reference in references:
            names = [name for name, subject in subjects.items() if subject.reference == reference]
            order.shuffle(names)
            before = seconds_of(reference)
            for name in names:
                own, after = seconds_of(name), seconds_of(reference)
                times[name].seconds.append(own)
                times[name].ratios.append(own / ((before + after) / 2))
                before = after
    return times


def quartiles(values: Any) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(q) for q in np.percentile(values, [25, 50, 75])]


def timed(fun: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """The result of a function, and the seconds until it is there."""
    start = time.perf_counter()
    return jax.block_until_ready(fun(*args)), time.perf_counter() - start


def by_the_clock(train: Callable[[int], Any]) -> Callable[[int], float]:
    """The seconds of a function that takes so many steps."""
    return lambda steps: timed(train, steps)[1]


def _block_steps(subject: Subject, plan: Plan) -> int:
    """Warms up by an interval, whose time determines the steps of a block."""
    return subject.interval * max(1, math.ceil(plan.block_seconds / subject.seconds(subject.interval)))
