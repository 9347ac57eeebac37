"""What the command line does: `optax-adahessian path` and `optax-adahessian estimate`, from options to text."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adahessian import adahessian
from optax_adahessian.analysis.estimates import EstimateReport, estimate_report, small_network
from optax_adahessian.analysis.surfaces import Surface
from optax_adahessian.analysis.trajectories import OPTIMIZERS, Path, finite_part, trajectory


def run(options: argparse.Namespace) -> str:
    """What the command prints; writes the picture if `options.save` names one."""
    with jax.enable_x64(True):
        text = {"path": _run_path, "estimate": _run_estimate}[options.command](options)
    return f"{text}\nThe picture is in {options.save}." if options.save and not options.json else text


def _run_path(options: argparse.Namespace) -> str:
    surface: Surface = options.function
    start = np.asarray(options.start or surface.start, float)
    steps = options.steps
    tx = adahessian(options.learning_rate, options.b1, options.b2, options.eps, options.hessian_power)
    paths = {"adahessian": trajectory(tx, surface.fun, start, steps, _probes(options))}
    paths |= {n: trajectory(OPTIMIZERS[n](rate), surface.fun, start, steps) for n, rate in options.against.items()}
    paths = {name: finite_part(path) for name, path in paths.items()}
    if not len(paths["adahessian"].losses):
        at = tuple(start.tolist())
        raise ValueError(f"{surface.formula!r} is infinite or NaN at the start {at}. Choose another --start.")
    if options.save:
        from optax_adahessian.analysis.plots import paths_figure

        title = f"f(x, y) = {surface.formula}\n{_rule(options)}"
        paths_figure(surface.fun, paths, options.window or surface.window, surface.minima, title).savefig(options.save)
    endings = {name: _ending(path, steps) for name, path in paths.items()}
    if options.json:
        runs = [
            {"optimizer": name, "points": p.points.tolist(), "losses": p.losses.tolist(), "ended": endings[name]}
            for name, p in paths.items()
        ]
        return json.dumps({"function": surface.formula, "dtype": str(jnp.result_type(float)), "paths": runs})
    rows = [(name, len(p.losses) - 1, *map(float, p.points[-1]), float(p.losses[-1])) for name, p in paths.items()]
    notes = [f"{name}: {ending}." for name, ending in endings.items() if ending]
    return "\n".join([_table(("optimizer", "steps", "x", "y", "f(x, y)"), rows), *notes])


def _rule(options: argparse.Namespace) -> str:
    names = ("learning_rate", "b1", "b2", "eps", "hessian_power")
    return "adahessian: " + ", ".join(f"{name.replace('_', ' ')} {getattr(options, name):g}" for name in names)


def _ending(path: Path, steps: int) -> str | None:
    """Why a path has fewer steps than it should have."""
    if len(path.losses) > steps:
        return None
    return f"the path ends after step {len(path.losses) - 1} of {steps}: the next point or its f is infinite or NaN"


def _probes(options: argparse.Namespace) -> Any:
    """Signs of shape (at least steps, probes of a step, 2), drawn or recorded."""
    file: pathlib.Path | None = options.probes_from
    if file is None:
        return jax.random.rademacher(jax.random.key(options.seed), (options.steps, options.probes, 2), dtype=jnp.int8)
    try:
        probes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as an array (.npy): {error}") from error
    shape = np.shape(probes)  # () of an archive (.npz)
    if len(shape) != 3 or shape[0] < options.steps or shape[2] != 2 or not np.all(np.abs(probes) == 1):
        needed = f"signs, -1 or 1, of shape (at least {options.steps} steps, probes per step, 2)"
        raise ValueError(f"{str(file)!r} (of shape {shape}) must hold one array of {needed}.")
    return probes


def _run_estimate(options: argparse.Namespace) -> str:
    fun, params, names, title = _subject(options)
    report = estimate_report(fun, params, jax.random.key(options.seed), options.max_probes, options.repetitions)
    if not all(np.isfinite(values).all() for values in report):
        raise ValueError(f"The Hessian of {title} is infinite or NaN there. Choose another point with --at.")
    if options.save:
        from optax_adahessian.analysis.plots import estimate_figure

        estimate_figure(report, title).savefig(options.save)
    if options.json:
        arrays = {field: values.tolist() for field, values in report._asdict().items()}
        return json.dumps({"function": title, "parameters": names, **arrays})
    return _as_text(report, names, title, options)


def _subject(options: argparse.Namespace) -> tuple[Callable[[Any], jax.Array], Any, list[str], str]:
    """The function, where to look at it, the names of its entries, and what to call it."""
    if options.function == "network":
        if options.at:
            raise ValueError("--at is for functions of x and y; the network's parameters are fixed.")
        loss_fn, params = small_network()
        names = [
            f"{path[0].key}{list(map(int, index)) if index else ''}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            for index in np.ndindex(leaf.shape)
        ]
        return loss_fn, params, names, "a network's loss"
    surface = options.function
    point = tuple(options.at or surface.start)
    return surface.fun, jnp.asarray(point), ["x", "y"], f"{surface.formula} at {point}"


def _as_text(report: EstimateReport, names: list[str], title: str, options: argparse.Namespace) -> str:
    exact, estimate, root_mean_square, row_norm, *_, counts, measured, predicted = (x.tolist() for x in report)
    diagonal = _table(
        ("parameter", "exact", f"mean of {options.max_probes}", "root mean square of one", "norm of the row"),
        zip(names, exact, estimate, root_mean_square, row_norm, strict=True),
    )
    errors = _table(("probes", "error", "theory"), zip(counts, measured, predicted, strict=True))
    difference, largest = np.max(np.abs(report.gradient_of_product - report.hz)), np.max(np.abs(report.hz))
    return f"""\
The Hessian's diagonal of {title}, and estimates z * Hz of it:

{diagonal}

The gradient of <gradient, z> and H z differ by at most {difference:.2g}; H z has entries up to {largest:.3g}.

The root mean square error of the mean over n probes ({options.repetitions} repetitions), and in theory
sqrt(sum of the squares off the diagonal / number of parameters / n):

{errors}"""


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows under their header: the first column to the left, numbers to the right with six digits."""
    cells = [list(header), *([f"{c:.6g}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
