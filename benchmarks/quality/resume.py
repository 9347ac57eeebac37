"""Runs that are asked for one after the other: taken from those that are finished, or made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.quality.store import key_of

Record = dict[str, Any]


class MissingRun(Exception):  # noqa: N818 - the end of what is there, not an error
    """A study asked for a run that is not among the finished ones."""


def recorded(runs: Iterable[Record]) -> Callable[..., Record]:
    """Finds the record of a run by its key; raises MissingRun where there is none."""
    by_key = {key_of(run): run for run in runs}

    def run(key: Record, *context: Any) -> Record:
        del context
        if key_of(key) not in by_key:
            raise MissingRun(key_of(key))
        return by_key[key_of(key)]

    return run


def resumed(
    finished: Iterable[Record], train: Callable[..., Record], report: Callable[[Record], None]
) -> Callable[..., Record]:
    """Trains by ``train(key, *context)`` what is not finished, and reports each new record."""
    look_up = recorded(finished)

    def run(key: Record, *context: Any) -> Record:
        try:
            return look_up(key)
        except MissingRun:
            record = {"kind": "run", **key, **train(key, *context)}
            report(record)
            return record

    return run
