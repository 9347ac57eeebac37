"""The summary as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.quality.optimizers import OPTIMIZERS, OURS, Settings
from benchmarks.quality.seconds import clock_of
from benchmarks.quality.summary import Loss, Result, Runs, Verdict, judge, summarize
from benchmarks.quality.task import Task
from benchmarks.report import markdown, number, setting

HEADER = (
    "",
    "test loss at equal seconds",
    "at equal steps",
    "AdamW's best: steps",
    "AdamW's best: seconds",
    "robustness",
)
FAR_OFF = 1e5  # a loss of which the order of magnitude is enough
CHOSEN = ("", "a step over AdamW's", "steps", "chosen on validation")


def tables(machine: dict[str, Any], times: Runs, runs: Runs, tasks: Mapping[str, Task]) -> str:
    """Verdict, results and settings, under one line on machine and versions."""
    results = summarize(runs)
    parts = [f"Measured on {setting({'machine': machine}, when='at the start')}\n"]
    if machine["quick"]:
        parts.append(
            "**A quick run: a tenth of the steps, few settings, two seeds. It shows that it works, no more.**\n"
        )
    if (verdict := judge(results)).tasks:
        parts.append(verdict_lines(verdict))
    for task, row in results.items():
        parts.append(f"**{tasks[task].title}**, {tasks[task].metric}:\n")
        parts.append(markdown(HEADER, (_cells(optimizer, result) for optimizer, result in row.items())))
        chosen = []
        for optimizer, result in row.items():
            ratio = clock_of(times, task, optimizer, result.settings).ratio
            chosen.append([optimizer, number(ratio), f"{result.steps:,}", _text(optimizer, result.settings)])
        parts.append(markdown(CHOSEN, chosen))
        if OURS in row and row[OURS].defaults is not None:
            parts.append(_defaults_line(row[OURS]))
    return "\n".join(parts)


def verdict_lines(verdict: Verdict) -> str:
    """A list of what was counted."""
    of = f"of {verdict.tasks} tasks"
    excess = f"{verdict.largest_excess:+.1%}" if math.isfinite(verdict.largest_excess) else "infinite: a run diverged"
    return (
        f"* At equal seconds AdaHessian's test loss is lower than AdamW's on {verdict.lower} {of}; "
        f"its largest excess over AdamW's is {excess}.\n"
        f"* It comes to AdamW's best test loss in at most 0.8 of its seconds on {verdict.sooner} {of}.\n"
        f"* Its robustness is at least that of AdamW on {verdict.robust} {of}.\n"
        f"* Its defaults, all but the learning rate, end within 5% of its tuned settings on {verdict.defaults} {of}.\n"
    )


def _cells(optimizer: str, result: Result) -> list[str]:
    return [
        optimizer,
        loss_text(result.equal_seconds),
        loss_text(result.equal_steps),
        number(result.steps_to_best),
        number(result.seconds_to_best),
        "-" if result.robustness is None else f"{result.robustness:.0%}",
    ]


def loss_text(loss: Loss) -> str:
    """Mean and spread, to four digits of the mean."""
    if not math.isfinite(loss.mean):
        return "diverged"
    if loss.mean >= FAR_OFF:
        return f"{loss.mean:.0e}"
    decimals = max(0, 3 - math.floor(math.log10(loss.mean))) if loss.mean > 0 else 4
    spread = "" if math.isnan(loss.spread) else f" ± {loss.spread:.{decimals}f}"
    return f"{loss.mean:.{decimals}f}{spread}"


def _text(optimizer: str, settings: Settings) -> str:
    """The settings, the rate first, and whether a rate further out might have done better."""
    rates = [change["learning_rate"] for change in OPTIMIZERS[optimizer].first_round]
    within = rates[0] < settings["learning_rate"] < rates[-1]
    others = [f"{name} {value}" for name, value in settings.items() if name != "learning_rate"]
    rate = f"learning_rate {settings['learning_rate']}{'' if within else ' (at the edge of those tried)'}"
    return ", ".join([rate, *others])


def _defaults_line(result: Result) -> str:
    tuned, defaults = result.equal_seconds.mean, result.defaults.mean
    excess = f" ({defaults / tuned - 1:+.1%})" if math.isfinite(tuned) and math.isfinite(defaults) else ""
    return f"AdaHessian's defaults at their best rate: {loss_text(result.defaults)}{excess}.\n"
