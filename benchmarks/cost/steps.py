"""The time of a step of every optimizer over that of its framework's AdamW."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence

import optax
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks import machine, models
from benchmarks.cost import optimizers
from benchmarks.cost.optimizers import ADAMW, CLIPPED, MOMENTUM, PLAIN, TORCH_ADAMW
from benchmarks.programs import tree_bytes
from benchmarks.report import Line, Target, find, markdown, number, over, pivot
from benchmarks.timing import Plan, Subject, by_the_clock, interleaved, quartiles
from optax_adahessian.analysis import palette

MODELS = {
    "mlp": lambda: models.mlp(batch_size=256, width=512, features=784),
    "resnet20": models.resnet20,
    "transformer": lambda: models.transformer(batch_size=16, length=64, width=128),
    "tiny": lambda: models.mlp(batch_size=4, width=8),  # for trying out a command
}
LIMITS = {"mlp": (2.9, 1.2, 1.04), "resnet20": (2.2, 1.2, 1.04), "transformer": (3.2, 1.2, 1.04)}  # at 1, 10, 50
LARGE_ROWS = (ADAMW, PLAIN, MOMENTUM + "no estimate", "ours, interval 1", MOMENTUM + "interval 1", CLIPPED)
# The parameters and two moments of each of these rows, and in addition gradients, tangents and what is being written.
LARGE_BYTES = 4 * (3 * len(LARGE_ROWS) + 8)
SERIES = ("ours", "ours, obj_fn", "optax.contrib.sophia", "somax.adahessian", "pytorch_optimizer.AdaHessian")


def measure(names: Sequence[str], keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """Every row of every model; a number such as 1e7 is an MLP of so many parameters in two square layers."""
    for name in names:
        if name in MODELS:
            yield from _measure(name, MODELS[name](), lambda row: row != CLIPPED and keep(row), plan)
        elif LARGE_BYTES * float(name) > machine.memory_available():
            tqdm.write(f"skipped: {name} parameters, which need {LARGE_BYTES * float(name) / 1e9:.0f} GB")
        else:
            width = round((float(name) / 2) ** 0.5)
            problem = models.mlp(batch_size=64, width=width, features=width)
            yield from _measure(name, problem, lambda row: row in LARGE_ROWS and keep(row), plan)


def _measure(model: str, problem: models.Problem, keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """The rows that `keep` admits and those that they are compared with, with the raw times."""
    methods = {n: m for n, m in optimizers.methods(problem).items() if n == ADAMW or keep(n)}
    found = importlib.util.find_spec("torch")
    peers = importlib.import_module("benchmarks.cost.torch_peers").rows(problem) if found else {}
    kept = [name for name in peers if keep(name)]
    peers = {name: peers[name] for name in dict.fromkeys([TORCH_ADAMW, *kept])} if kept else {}
    rows: dict[str, optimizers.Row] = {}
    for name, method in tqdm(methods.items(), desc=f"{model}: compiling", unit="row", leave=False):
        rows[name] = optimizers.make_row(problem, method, rows[ADAMW].costs if rows else {})
    references = dict.fromkeys(rows, ADAMW) | dict.fromkeys(peers, TORCH_ADAMW)
    rows |= {name: make() for name, make in peers.items()}
    subjects = {name: Subject(by_the_clock(row.train), row.interval, references[name]) for name, row in rows.items()}
    times = interleaved(subjects, plan, label=model)
    for name, row in rows.items():
        yield {
            "model": model,
            "row": name,
            "reference": references[name],
            "interval": row.interval,
            "steps_per_block": times[name].steps,
            "seconds": [float(f"{x:.4g}") for x in times[name].seconds],
            "ratios": [float(f"{x:.4g}") for x in times[name].ratios],
            "parameters": optax.tree.size(problem.params),
            "parameter_bytes": tree_bytes(problem.params),
            **row.costs,
        }


def tables(lines: Sequence[Line]) -> str:
    """The ratios of all models, and one table for each."""
    header = ["optimizer", "ms per step", "over AdamW (quartiles)", "FLOPs over AdamW", "MB accessed", "over AdamW"]
    header += ["temporary MB", "compile, CPU s", "state, in parameters"]
    parts = [pivot("time over AdamW's", lines, lambda line: number(ratio(line)))]
    for model in dict.fromkeys(line["model"] for line in lines):
        rows = [line for line in lines if line["model"] == model]
        parts.append(f"**{model}**, {rows[0]['parameters']:,} parameters:\n")
        parts.append(markdown(header, [_cells(line, find(rows, row=line["reference"])) for line in rows]))
    return "\n".join(parts)


def _cells(line: Line, adamw: Line) -> list[str]:
    low, median, high = map(number, quartiles(line["ratios"]))
    return [
        line["row"],
        number(1e3 * quartiles(line["seconds"])[1]),
        f"{median} ({low} to {high})",
        number(over(line.get("flops"), adamw.get("flops"))),
        number(over(line.get("bytes_accessed"), 1e6), 1),
        number(over(line.get("bytes_accessed"), adamw.get("bytes_accessed"))),
        number(over(line.get("temp_bytes"), 1e6), 1),
        number(line.get("compile_seconds"), 1),
        number(line["state_bytes"] / line["parameter_bytes"]),
    ]


def ratio(line: Line) -> float | None:
    """The median, if there is a measurement."""
    return quartiles(line["ratios"])[1] if line else None


def targets(lines: Sequence[Line]) -> list[Target]:
    """For the models of the record: ours at each interval; and at 1e7 parameters what costs without an estimate."""
    found = [
        Target(f"{m}, interval {k}: AdamW's steps", ratio(find(lines, model=m, row=f"ours, interval {k}")), limit)
        for m in [m for m in LIMITS if find(lines, model=m)]
        for k, limit in zip((1, 10, 50), LIMITS[m], strict=True)
    ]
    adamw, plain, momentum = (find(lines, model="1e7", row=row) for row in LARGE_ROWS[:3])
    if plain and momentum:
        for what, line, cost in (
            ("no estimate: bytes", plain, "bytes_accessed"),
            ("no estimate: temporary memory", plain, "temp_bytes"),
            ("adaptive_nesterov, no estimate: temporary memory", momentum, "temp_bytes"),
        ):
            found.append(Target(f"1e7, {what} over AdamW's", over(line[cost], adamw[cost]), 1, digits=3))
        found.append(Target("1e7, adaptive_nesterov, no estimate: AdamW's steps", ratio(momentum), 1.5))
    return found


def draw(lines: Sequence[Line]) -> Figure:
    """The rows that differ only in their interval, next to one gradient and two more every k steps."""
    names = list(dict.fromkeys(line["model"] for line in lines))
    figure = palette.new_figure(4.5, 3.2 * len(names))
    for ax, model in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        for series, color, marker in zip(SERIES, palette.COLORS, palette.MARKERS, strict=False):
            rows = [find(lines, model=model, row=f"{series}, interval {k}") for k in (1, 10, 50)]
            points = [line["interval"] for line in rows if line], [ratio(line) for line in rows if line]
            ax.plot(*points, marker=marker, markersize=5, color=color, label=series)
        ax.plot(range(1, 51), [1 + 2 / k for k in range(1, 51)], ":", color=palette.BLACK, label="1 + 2/k")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([1, 10, 50], ["1", "10", "50"])
        ax.set_yticks([1, 2, 3, 5, 10, 20, 50], ["1", "2", "3", "5", "10", "20", "50"])
        ax.minorticks_off()
        ax.set_ylim(0.9, 1.1 * max(ratio(line) for line in lines if line["model"] == model) + 3)
        palette.label(ax, "interval k", "time over AdamW's", model)
        for text in (*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set_size(12)  # to be read on a phone
    figure.axes[0].legend(fontsize=9)
    return figure
