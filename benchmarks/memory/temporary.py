"""Temporary memory of an estimate against the number of its probes and against how they are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks.models import Problem
from benchmarks.programs import Program, compile_program


def unrolled(problem: Problem, num_probes: int) -> Callable[..., Any]:
    """The default: one probe after the other in the program."""
    return oah.value_grad_and_hessian_diag(problem.loss_fn, num_probes=num_probes)


def loop(problem: Problem, num_probes: int) -> Callable[..., Any]:
    """One probe in the program, run again and again."""
    return oah.value_grad_and_hessian_diag(problem.loss_fn, num_probes=num_probes, unroll=False)


def mapped(problem: Problem, num_probes: int) -> Callable[..., Any]:
    """For comparison: all probes at once, by `jax.vmap` over the key."""
    estimate = oah.value_grad_and_hessian_diag(problem.loss_fn)

    def mean_of_estimates(key: jax.Array, params: Any, batch: Any) -> tuple[Any, Any, Any]:
        in_axes, out_axes = (0, None, None), (None, None, 0)
        keys = jax.random.split(key, num_probes)
        loss, grads, diags = jax.vmap(estimate, in_axes, out_axes)(keys, params, batch)
        return loss, grads, jax.tree.map(lambda h: jnp.mean(h, axis=0), diags)

    return mean_of_estimates


WAYS = {"unrolled": unrolled, "loop": loop, "vmap": mapped}


def measure(problem: Problem, probes: Sequence[int], label: str) -> dict[str, dict[int, dict[str, float]]]:
    """For every way and number of probes the temporary bytes, and the operations in gradients."""
    data = jax.random.key(0), problem.params, problem.batch
    gradient = compile_program(jax.value_and_grad(problem.loss_fn), *data[1:])

    def costs(program: Program) -> dict[str, float]:
        return {"temp_bytes": program.temp_bytes, "gradients": program.flops / gradient.flops}

    pairs = tqdm([(way, n) for way in WAYS for n in probes], desc=f"{label}: compiling", leave=False)
    measured: dict[str, dict[int, dict[str, float]]] = {way: {} for way in WAYS}
    for way, n in pairs:
        measured[way][n] = costs(compile_program(WAYS[way](problem, n), *data))
    return {"gradient": {0: costs(gradient)}, **measured}
