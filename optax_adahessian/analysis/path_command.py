"""`optax-adahessian path`: the paths of AdaHessian and others over a function of x and y."""

from __future__ import annotations

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian import adahessian
from optax_adahessian.analysis.optimizers import OPTIMIZERS
from optax_adahessian.analysis.recorded import read_probes, recorded_probes
from optax_adahessian.analysis.surfaces import Surface, as_surface
from optax_adahessian.analysis.tables import format_table
from optax_adahessian.analysis.trajectories import Path, finite_part, trajectory


def run_path(options: argparse.Namespace) -> str:
    """What the command prints; writes the picture if one is asked for."""
    surface = as_surface(options.function)
    start = options.start or surface.start
    optimizers = {"adahessian": _adahessian(options)}
    optimizers |= {name: OPTIMIZERS[name](rate) for name, rate in options.against.items()}
    paths = {name: _path(tx, surface, start, options.steps) for name, tx in optimizers.items()}
    if options.save:
        from optax_adahessian.analysis.plots import paths_figure

        window = options.window or surface.window
        paths_figure(surface.fun, paths, window, surface.minima, f"f(x, y) = {surface.formula}").savefig(options.save)
    return _as_json(surface, paths, options) if options.json else _as_text(paths, options)


def _adahessian(options: argparse.Namespace) -> optax.GradientTransformation:
    probes: Any
    if options.probes_from:
        probes = read_probes(options.probes_from, options.steps)
    else:
        # Drawn beforehand: `hutchinson` unrolls its probes, and hundreds of them take minutes to compile.
        shape = (options.steps, options.probes, 2)
        probes = jax.random.rademacher(jax.random.key(options.seed), shape, dtype=jnp.int8)
    return adahessian(
        options.learning_rate,
        b1=options.b1,
        b2=options.b2,
        eps=options.eps,
        hessian_power=options.hessian_power,
        time_average="rms",
        nesterov=False,
        max_step=None,
        hessian_diagonal_fn=recorded_probes(probes),
    )


def _path(tx: optax.GradientTransformation, surface: Surface, start: Any, steps: int) -> Path:
    path = finite_part(trajectory(tx, surface.fun, np.asarray(start, float), steps))
    if not len(path.losses):
        raise ValueError(f"{surface.formula!r} is infinite or NaN at the start {tuple(start)}. Choose another --start.")
    return path


def _ending(path: Path, steps: int) -> str | None:
    """Why a path is shorter than asked for."""
    if len(path.losses) > steps:
        return None
    return f"the path ends after step {len(path.losses) - 1} of {steps}: the next point or its f is infinite or NaN"


def _as_text(paths: dict[str, Path], options: argparse.Namespace) -> str:
    rows = [
        (name, len(path.losses) - 1, *map(float, path.points[-1]), float(path.losses[-1]))
        for name, path in paths.items()
    ]
    endings = {name: _ending(path, options.steps) for name, path in paths.items()}
    notes = [f"{name}: {ending}." for name, ending in endings.items() if ending]
    if options.save:
        notes.append(f"The picture is in {options.save}.")
    return "\n".join([format_table(("optimizer", "steps", "x", "y", "f(x, y)"), rows), *notes])


def _as_json(surface: Surface, paths: dict[str, Path], options: argparse.Namespace) -> str:
    runs = [
        {
            "optimizer": name,
            "points": np.asarray(path.points).tolist(),
            "losses": np.asarray(path.losses).tolist(),
            "ended": _ending(path, options.steps),
        }
        for name, path in paths.items()
    ]
    return json.dumps({"function": surface.formula, "dtype": str(jnp.result_type(float)), "paths": runs})
