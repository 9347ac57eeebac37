"""The outcomes of a study as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.quality.summary import NEAR, loss_of
from benchmarks.quality.table import loss_text
from benchmarks.quality.task import Task
from benchmarks.report import markdown, setting
from benchmarks.studies.registry import Study
from benchmarks.studies.search import Outcome

Outcomes = Mapping[tuple[str, str], Outcome]  # by label and task


def tables(machine: dict[str, Any], study: Study, outcomes: Outcomes, tasks: Mapping[str, Task]) -> str:
    """Test losses, and the rates they were reached with, of the tasks with outcomes, under one line on the machine."""
    finished = {name for _, name in outcomes}
    present = {name: task for name, task in tasks.items() if name in finished}

    def table(cell: Any) -> str:
        header = ("", *(f"{task.title} ({task.steps:,} steps)" for task in present.values()))
        return markdown(header, ([label, *(cell(outcomes[label, name]) for name in present)] for label in study.rows))

    return "\n".join(
        (
            f"Measured on {setting({'machine': machine}, when='at the start')}\n",
            "Test loss, mean and spread over seeds:\n",
            table(_loss),
            "Learning rate, chosen on validation, and how many of those tried ended within 10% of the best:\n",
            table(_rates),
        )
    )


def _loss(outcome: Outcome) -> str:
    return loss_text(loss_of(outcome.tests))


def _rates(outcome: Outcome) -> str:
    best = min(outcome.validation.values())
    if math.isinf(best):
        return f"none of {len(outcome.validation)}"
    near = sum(loss <= NEAR * best for loss in outcome.validation.values())
    edge = ", the last" if outcome.at_edge else ""
    return f"{outcome.rate:g}{edge}; {near} of {len(outcome.validation)}"
