"""Tables and a picture, from finished runs alone."""

import itertools
import math
import operator
import statistics
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.report import markdown
from benchmarks.train.jobs import Job
from benchmarks.train.optimizers import BASELINE, OURS, ROWS, STUDIES, WIDE
from benchmarks.train.search import Record, Result, Trial, best, ratio, standard_error
from benchmarks.train.tasks import load

Results = Mapping[str, Mapping[str, Result]]  # by task and row


def finished(records: Sequence[Record], work: Iterable[Job]) -> Results:
    """The results of all jobs whose runs are all there."""
    results: dict[str, dict[str, Result]] = {}
    for job in work:
        if not job.steps_left(records):
            results.setdefault(job.task, {})[job.row] = job.result(job.known(records), None)
    return results


def tables(records: Sequence[Record], results: Results) -> dict[str, str]:
    """All tables by name; those of which nothing is finished are left out."""
    compared = {task: rows for task, rows in results.items() if BASELINE in rows}
    texts = {
        "summary": _summary(records, compared),
        "details": "\n".join(_details(records, task, rows) for task, rows in compared.items()),
        "robustness": _robustness(compared),
        "grids": _grids(compared),
        **{name: _study(name, results) for name in STUDIES},
    }
    return {name: text for name, text in texts.items() if text}


def _summary(records: Sequence[Record], results: Results) -> str:
    """Test losses at equal seconds over AdamW's, and how often they are lower."""
    machine, seconds = records[0], [r for r in records if r["kind"] == "seconds" and r["task"] in results]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("jax", "optax"))
    text = f"{machine['cores']} cores of {machine['processor']}, load {machine['load']:.1f} at the start, {versions}, "
    text += f"commit {machine['commit']}.{' **A quick run: it shows that it works, no more.**' * machine['quick']}\n\n"
    rows = [row for row in ROWS if row != BASELINE and any(row in result for result in results.values())]
    rows.sort(key=lambda row: row != OURS)  # first, since the table may be wider than the page
    having = {row: [result for result in results.values() if row in result] for row in rows}
    ratios = {row: [ratio(r[row].final, r[BASELINE].final) for r in having[row]] for row in rows}
    counts = {
        "tasks": lambda value, error: True,
        "lower on": lambda value, error: value < 1,
        "at most 3% higher on": lambda value, error: value <= 1.03,
        "lower by two standard errors on": lambda value, error: value < 1 - 2 * error,
        "higher by two standard errors on": lambda value, error: value > 1 + 2 * error or value == math.inf,
    }
    body = []
    for task, result in results.items():
        cells = (_percent(*ratio(result[r].final, result[BASELINE].final)) if r in result else "-" for r in rows)
        body.append([load(task).title, _loss(result[BASELINE].final), *cells])
    body += [[f"*{name}*", "", *(str(sum(f(*p) for p in ratios[row])) for row in rows)] for name, f in counts.items()]
    body.append(["*median over tasks*", "", *(_percent(statistics.median(v for v, _ in ratios[row])) for row in rows)])
    means = []
    for row in rows:
        middle = ([statistics.median(r[name].final.losses()) for r in having[row]] for name in (row, BASELINE))
        means.append(statistics.geometric_mean(itertools.starmap(operator.truediv, zip(*middle, strict=True))))
    body.append(["*geometric mean, by medians over seeds*", "", *map(_percent, means)])
    compiled = [[r["compile_seconds"] for r in seconds if r["row"] == row] for row in (BASELINE, *rows)]
    body.append(["*CPU seconds to compile, median*", *(f"{statistics.median(c):.1f}" for c in compiled)])
    return text + markdown(["", "AdamW's test loss", *rows], body)


def _details(records: Sequence[Record], task: str, result: Mapping[str, Result]) -> str:
    """Everything of one task."""
    timed = {r["row"]: r for r in records if r["kind"] == "seconds" and r["task"] == task}
    adamw, step = result[BASELINE], timed[BASELINE]["step_seconds"]
    steps, tuned, seeds = adamw.final.runs[0]["steps"], len(adamw.tuning[0].runs), len(adamw.final.runs)
    text = f"**{load(task).title}** ({load(task).metric}). AdamW: {steps:,} steps of {1e3 * step:.3g} ms, "
    text += f"{steps * step:.2g} seconds a run. {tuned} seeds to tune and {seeds} to report.\n\n"
    body = []
    for row in (row for row in ROWS if row in result):
        final, equal_steps = result[row].final, result[row].equal_steps
        numbers = [f"{name} {value:g}" for name, value in final.settings.items()]
        step = "{:.2f} ({:.2f} to {:.2f})".format(timed[row]["ratio"], *timed[row]["quartiles"])
        own = [row, step, f"{final.runs[0]['steps']:,}", _loss(final), _percent(*ratio(equal_steps, adamw.equal_steps))]
        body.append([*own, ", ".join([numbers[-1], *numbers[:-1]])])
    header = ["", "step over AdamW's", "steps", "test loss at equal seconds", "over AdamW's at equal steps", "chosen"]
    return text + markdown(header, body)


def _robustness(results: Results) -> str:
    """What another rate than the best costs: the median over tasks, and the highest."""
    body = []
    for row in (row for row in ROWS if ROWS[row].grid):
        grids = [result[row].grid for result in results.values() if row in result]
        cells = []
        for k in (-2, -1, 1, 2):
            pairs = [
                (grid[i + k], grid[i]) for grid in grids for i in [grid.index(best(grid))] if 0 <= i + k < len(grid)
            ]
            costs = [there.mean() / here.mean() for there, here in pairs] or [math.nan]
            cells.append(f"{_percent(statistics.median(costs))}, {_percent(max(costs))}")
        body += [[row, *cells]] if grids else []
    return markdown(["change of the loss at this multiple of the best rate", "0.1", "0.3", "3", "10"], body)


def _grids(results: Results) -> str:
    """The smallest grid of neighbouring rates and clips that comes near the best of all on so many tasks."""
    losses: list[dict[tuple[float, float], float]] = [
        {(t.settings["learning_rate"], t.settings["clip"]): t.mean("validation") for t in result[OURS].joint}
        for result in results.values()
        if OURS in result
    ]
    if not losses:
        return ""
    rates, clips = (_runs(sorted(set(axis))) for axis in zip(*losses[0], strict=True))
    found = []
    for grid in itertools.product(rates, clips):
        ratios = [min(map(task.__getitem__, itertools.product(*grid))) / min(task.values()) for task in losses]
        found.append((math.prod(map(len, grid)), max(ratios), grid, sum(ratio <= 1.05 for ratio in ratios)))
    body = []
    for least in range(1 + len(losses) // 2, len(losses) + 1):
        runs, worst, grid, _ = min(entry for entry in found if entry[3] >= least)
        body.append([str(least), *(", ".join(f"{x:.2g}" for x in axis) for axis in grid), str(runs), _percent(worst)])
    return markdown([f"tasks of {len(losses)} within 5% of the best", "rates", "clips", "runs", "worst task"], body)


def _runs(values: Sequence[float]) -> list[Sequence[float]]:
    """All runs of neighbours."""
    return [values[i:j] for i in range(len(values)) for j in range(i + 1, len(values) + 1)]


def _study(name: str, results: Results) -> str:
    """Over the row that each is compared with, at equal steps; every row at the best of its rates."""
    tasks, rows = STUDIES[name]
    have = {task: results[task] for task in tasks if rows.keys() & results.get(task, {}).keys()}

    def cell(row: str, result: Mapping[str, Result]) -> str:
        base = rows[row].base
        if not {row, base} <= result.keys():
            return "-"
        text = _loss(result[row].final) if row == base else _percent(*ratio(result[row].final, result[base].final))
        return f"{text} (rate {result[row].final.settings['learning_rate']:g})"

    body = [[row, *(cell(row, result) for result in have.values())] for row in rows] if have else []
    return markdown(["at equal steps", *(load(task).title for task in have)], body)


def _percent(value: float, error: float = math.nan) -> str:
    """A ratio as what it is above 1, in per cent."""
    if not value < 10:
        return "-" if math.isnan(value) else f"{value:.0f} times" if value < 1e4 else "diverged"
    decimals = 0 if value >= 2 else 1
    return f"{100 * (value - 1):+.{decimals}f}%" + ("" if math.isnan(error) else f" ± {100 * error:.{decimals}f}")


def _loss(trial: Trial) -> str:
    """The mean over seeds and its standard error, to four digits of the mean."""
    mean, error = trial.mean(), standard_error(trial.losses())
    if not math.isfinite(mean):
        return "diverged"
    decimals = max(0, 3 - math.floor(math.log10(mean))) if 0 < mean < 1e5 else 0
    return f"{mean:.{decimals}f}" + ("" if math.isnan(error) else f" ± {error:.{decimals}f}")


_COLORS = {BASELINE: "#D55E00", OURS: "#0072B2"}  # of Okabe and Ito


def rates(results: Results) -> Figure:
    """Test loss over that of AdamW's best rate: a line for each task, and their median. Large enough for a phone."""
    figure = Figure(figsize=(4.5, 5.0), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 1, sharey=True)
    for ax, row in zip(panels, _COLORS, strict=True):
        have = [result for result in results.values() if {row, BASELINE} <= result.keys()]
        lines = [[min(t.mean() / best(r[BASELINE].grid).mean(), 50.0) for t in r[row].grid] for r in have]
        xs = ROWS[row].rates(*WIDE)
        if lines:
            ax.plot(xs, [*zip(*lines, strict=True)], color="0.75", linewidth=1)
            ax.plot(xs, [*map(statistics.median, zip(*lines, strict=True))], "o-", color=_COLORS[row], linewidth=3)
        ax.set(xscale="log", yscale="log", ylim=(0.5, 5.0))
        ax.set_yticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"], minor=False)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.tick_params(labelsize=13)
        ax.set_title(row, color=_COLORS[row], fontsize=14)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test loss over AdamW's", fontsize=13)
    panels[1].set_xlabel("learning rate", fontsize=13)
    return figure
