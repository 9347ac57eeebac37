"""The time left: one bar over all studies, in the expected seconds of their runs."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from benchmarks.quality.jobs import Record
from benchmarks.quality.study import Study

_BAR = "{l_bar}{bar}| {elapsed} passed, {remaining} left{postfix}"


class Progress:
    """A bar that a run moves by its share of what all runs of its purpose are expected to take."""

    def __init__(self, studies: Sequence[Study], finished: Sequence[Sequence[Record]]) -> None:
        self._studies = {(study.task_name, study.optimizer): study for study in studies}
        done = sum(self._milliseconds(run) for runs in finished for run in runs)
        total = sum(
            count * _milliseconds(study, purpose) for study in studies for purpose, count in study.run_counts().items()
        )
        self.bar = tqdm(total=total, initial=done, bar_format=_BAR)

    def add(self, run: Record) -> None:
        """A run that is finished."""
        self.bar.set_postfix_str(f"{run['task']}, {run['optimizer']}: {run['purpose']}", refresh=False)
        self.bar.update(self._milliseconds(run))

    def _milliseconds(self, run: Record) -> int:
        return _milliseconds(self._studies[run["task"], run["optimizer"]], run["purpose"])


def expected_seconds(study: Study) -> float:
    """Of all runs of a study."""
    return sum(count * study.expected_seconds(purpose) for purpose, count in study.run_counts().items())


def _milliseconds(study: Study, purpose: str) -> int:
    return round(1e3 * study.expected_seconds(purpose))
