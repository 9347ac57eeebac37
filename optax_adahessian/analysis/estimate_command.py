"""`optax-adahessian estimate`: Hutchinson's estimate of a Hessian's diagonal beside the truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adahessian.analysis.networks import small_network
from optax_adahessian.analysis.reports import EstimateReport, estimate_report
from optax_adahessian.analysis.surfaces import as_surface
from optax_adahessian.analysis.tables import format_table


def run_estimate(options: argparse.Namespace) -> str:
    """What the command prints; writes the picture if one is asked for."""
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
            raise ValueError(f"`--at` (={options.at}) is for functions of x and y; the network's parameters are fixed.")
        loss_fn, params = small_network()
        names = [
            f"{path[0].key}{list(map(int, index)) if index else ''}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            for index in np.ndindex(leaf.shape)
        ]
        return loss_fn, params, names, "a network's loss"
    surface = as_surface(options.function)
    point = options.at or surface.start
    return surface.fun, jnp.asarray(point), ["x", "y"], f"{surface.formula} at {tuple(point)}"


def _as_text(report: EstimateReport, names: list[str], title: str, options: argparse.Namespace) -> str:
    columns = (report.exact, report.estimate, report.root_mean_square, report.row_norm)
    diagonal = format_table(
        ("parameter", "exact", f"mean of {options.max_probes}", "root mean square of one", "norm of the row"),
        list(zip(names, *(map(float, column) for column in columns), strict=True)),
    )
    errors = format_table(
        ("probes", "error", "theory"),
        list(zip(report.counts, map(float, report.measured_error), map(float, report.predicted_error), strict=True)),
    )
    difference, largest = np.max(np.abs(report.gradient_of_product - report.hz)), np.max(np.abs(report.hz))
    return f"""\
The Hessian's diagonal of {title}, and estimates z * Hz of it:

{diagonal}

The gradient of <gradient, z> and H z differ by at most {difference:.2g}; H z has entries up to {largest:.3g}.

The root mean square error of the mean over n probes ({options.repetitions} repetitions), and in theory
sqrt(sum of the squares off the diagonal / number of parameters / n):

{errors}""" + (f"\n\nThe picture is in {options.save}." if options.save else "")
