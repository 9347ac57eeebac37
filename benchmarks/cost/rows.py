"""A row of the table: an optimizer as it is run, with what is known of it before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.models import Problem
from benchmarks.programs import Program, compile_program, tree_bytes

RATE, DECAY = 1e-5, 1e-4  # so low that nothing converges, diverges or becomes denormal while it is timed


class Row(NamedTuple):
    """An optimizer on a model; what is None its framework does not tell."""

    train: Callable[[int], None]  # takes so many steps from where it stopped, and waits for the results
    interval: int
    state_bytes: int
    flops: float | None = None  # per step, the mean over an interval
    compile_seconds: float | None = None
    temp_bytes: int | None = None


Rows = dict[str, Callable[[], Row]]  # a row is compiled when it is asked for


def compile_step(problem: Problem, step: Callable[..., Any], state: Any) -> Program:
    """The program of ``step(params, state, batch, t)``, which reuses the buffers of parameters and state."""
    return compile_program(step, problem.params, state, problem.batch, 0, donate=(0, 1))


def jax_row(problem: Problem, state: Any, programs: Sequence[Program], interval: int, skipped_flops: float = 0) -> Row:
    """The loop that runs the first program at every multiple of the interval and the last at the other steps.

    `skipped_flops` are those of a step without an estimate, where the only program contains both.
    """
    carry = jax.tree.map(jnp.copy, (problem.params, state))
    t = 0

    def train(steps: int) -> None:
        nonlocal carry, t
        for _ in range(steps):
            program = programs[0] if t % interval == 0 else programs[-1]
            carry = program.run(*carry, problem.batch, t)[:2]
            t += 1
        jax.block_until_ready(carry)

    plain_flops = skipped_flops or programs[-1].flops
    return Row(
        train,
        interval,
        tree_bytes(state),
        (programs[0].flops + (interval - 1) * plain_flops) / interval,
        sum(program.compile_seconds for program in programs),
        max(program.temp_bytes for program in programs),
    )
