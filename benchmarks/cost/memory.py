"""Temporary memory and operations of an estimate against its probes, and the states of the optimizers."""

from collections.abc import Callable, Iterator, Sequence

import jax
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks.cost import optimizers, steps
from benchmarks.programs import compile_program, tree_bytes
from benchmarks.report import Line, Target, find, number, over, pivot
from benchmarks.timing import Plan

GRADIENT, REVERSE = "gradient alone", "1 probe, reverse over reverse"
PROBES = {"1 probe": 1, **{f"{n} probes": n for n in (2, 4, 8, 16)}}
AVERAGES = {"conv": oah.SpatialAverage.conv("HWIO"), "rows": oah.SpatialAverage.rows("HWIO")}


def measure(names: Sequence[str], keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """Nothing is timed."""
    del plan
    for name in names:
        loss_fn, params, batch = problem = steps.MODELS[name]()
        estimates = {row: oah.value_grad_and_hessian_diag(loss_fn, num_probes=n) for row, n in PROBES.items()}
        estimates[REVERSE] = oah.value_grad_and_hessian_diag(loss_fn, hvp="reverse_over_reverse")
        programs = {GRADIENT: (jax.value_and_grad(loss_fn), params, batch)}
        programs |= {row: (fun, optimizers.KEY, params, batch) for row, fun in estimates.items()}
        for row, (fun, *args) in tqdm(programs.items(), desc=f"{name}: compiling", leave=False):
            if keep(row):
                yield {"model": name, "row": row, **compile_program(fun, *args).costs}
        inits = {row: method.init for row, method in optimizers.methods(problem).items() if "no estimate" not in row}
        inits |= {f"ours, {row}": optimizers.adahessian(spatial_average=rule).init for row, rule in AVERAGES.items()}
        for row in filter(keep, inits):
            state = jax.eval_shape(inits[row], params)
            yield {"model": name, "row": row, "state_in_parameters": tree_bytes(state) / tree_bytes(params)}


def gradients(lines: Sequence[Line], line: Line) -> float | None:
    """The operations in units of those of one gradient."""
    return over(line["flops"], find(lines, model=line["model"], row=GRADIENT).get("flops"))


def tables(lines: Sequence[Line]) -> str:
    """Temporary megabytes, operations in gradients, and states in parameters."""
    programs = [line for line in lines if "temp_bytes" in line]
    states = [
        line for line in lines if "state_in_parameters" in line and not line["row"].endswith("0")
    ]  # interval 10 or 50
    megabytes = pivot("temporary MB", programs, lambda line: number(line["temp_bytes"] / 1e6, 1))
    operations = pivot("FLOPs, in gradients", programs, lambda line: number(gradients(lines, line)))
    shares = pivot("state, in parameters", states, lambda line: number(line["state_in_parameters"]))
    return "\n".join((megabytes, operations, shares))


def targets(lines: Sequence[Line]) -> list[Target]:
    """A gradient and two more for a probe."""
    one = [line for line in lines if line["row"] == "1 probe"]
    return [Target(f"{line['model']}, estimate: FLOPs in gradients", gradients(lines, line), 3.1) for line in one]
