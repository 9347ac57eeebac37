"""What it costs to compile a step, against the number of leaves and the depth of a network."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks.cost.optimizers import ADAMW, DECAY, KEY, MOMENTUM, PLAIN, RATE, methods
from benchmarks.models import Problem, chain, transformer
from benchmarks.programs import STAGES, compile_program
from benchmarks.report import Line, Target, find, number, over, pivot
from benchmarks.timing import Plan

KINDS = {"leaves": "matrices of (8, 8)", "layers": "a transformer: 10 leaves for each layer, and one more"}
SIGNS, UPDATE, DIAGONAL = "signs: ours", "update: optax.adamw", "update: ours, with a diagonal"
STEP, ESTIMATING = f"step: {ADAMW}", "step: ours, interval 1"
STEPS = (ADAMW, PLAIN, "ours, interval 1", MOMENTUM + "no estimate", "ours, obj_fn, interval 10")
STEPS += ("optax.contrib.sophia, interval 10", "somax.adahessian, interval 10")


def programs(problem: Problem) -> dict[str, tuple[Any, ...]]:
    """What is compiled: functions with the arguments that they are compiled for."""
    adamw, ours = (make(RATE, weight_decay=DECAY) for make in (optax.adamw, oah.adahessian))
    _, params, batch = problem

    def update(grads: Any, state: Any, params: Any, hessian_diag: Any) -> Any:
        return ours.update(grads, state, params, hessian_diag=hessian_diag)

    steps = {name: method for name, method in methods(problem).items() if name in STEPS}
    states = {name: jax.eval_shape(steps[name].init, params) for name in steps}
    return {
        SIGNS: (oah.rademacher_like, KEY, params),
        "signs: optax.tree.random_like": (partial(optax.tree.random_like, sampler=jax.random.rademacher), KEY, params),
        UPDATE: (adamw.update, params, states[ADAMW], params),
        DIAGONAL: (update, params, jax.eval_shape(ours.init, params), params, params),
        **{f"step: {n}": (m.step, params, states[n], KEY if m.keyed else None, batch) for n, m in steps.items()},
    }


def measure(names: Sequence[str], keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """Seconds of the processor for each stage, up to three times in turns, and the instructions of the program."""
    compile_program(oah.rademacher_like, KEY, jnp.ones((4, 4)))  # what happens once in a process
    for name in names:
        kind, size = name.split("_")
        problem = chain(int(size)) if kind == "leaves" else transformer(layers=int(size))
        kept = {row: program for row, program in programs(problem).items() if keep(row)}
        lines = {row: {"model": name, "leaves": len(jax.tree.leaves(problem.params)), "row": row} for row in kept}
        for row in tqdm([*kept] * min(plan.rounds, 3), desc=name, unit="program", leave=False):
            jax.clear_caches()  # each is compiled as in a process of its own
            fun, *args = kept[row]
            program = compile_program(fun, *args)
            for stage in STAGES:
                lines[row].setdefault(stage, []).append(round(program.seconds[stage], 4))
            lines[row]["instructions"] = program.run.as_text().count(" = ")
        yield from lines.values()


def seconds(line: Line) -> float | None:
    """From trace to program, the median."""
    return float(np.median(np.sum([line[stage] for stage in STAGES], axis=0))) if line else None


def tables(lines: Sequence[Line]) -> str:
    """For each kind of model a table of seconds and one of instructions."""
    parts = []
    for kind, what in KINDS.items():
        chosen = [line for line in lines if line["model"].startswith(kind)]
        parts.append(f"Leaves of {what}:\n")
        parts.append(pivot("CPU seconds", chosen, lambda line: number(seconds(line)), "leaves"))
        parts.append(pivot("instructions", chosen, lambda line: number(line["instructions"], 0), "leaves"))
    return "\n".join(parts)


def targets(lines: Sequence[Line]) -> list[Target]:
    """Linear in the leaves, and not much more than AdamW."""

    def cpu(model: str, row: str) -> float | None:
        return seconds(find(lines, model=model, row=row))

    few, many, most, deep = "leaves_50", "leaves_200", "leaves_400", "layers_24"
    compared = (
        ("update, 200 leaves over 50: CPU seconds", many, DIAGONAL, few, DIAGONAL, 4.6),
        ("update, 200 leaves: CPU seconds over AdamW's", many, DIAGONAL, many, UPDATE, 2),
        ("update, 400 leaves: CPU seconds over AdamW's", most, DIAGONAL, most, UPDATE, 2),
        ("step with an estimate, 241 leaves: CPU seconds over AdamW's", deep, ESTIMATING, deep, STEP, 5),
        ("step without, 241 leaves: CPU seconds over AdamW's", deep, f"step: {PLAIN}", deep, STEP, 1.1),
        ("signs, 241 leaves: share of the step with an estimate", deep, SIGNS, deep, ESTIMATING, 0.1),
    )
    instructions = [
        find(lines, model=model, row=row).get("instructions")
        for model, row in ((many, DIAGONAL), (few, DIAGONAL), ("layers_10", SIGNS))
    ]
    return [
        Target("update, 200 leaves over 50: instructions", over(*instructions[:2]), 4.6),
        *(Target(what, over(cpu(m, row), cpu(n, other)), limit) for what, m, row, n, other, limit in compared),
        Target("signs, 101 leaves: instructions", instructions[2], 5000, 0),
    ]
