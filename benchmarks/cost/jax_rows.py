"""The rows in JAX: sgd, adamw, ours in every way to feed it, and the peers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

import optax_adahessian as oah
from benchmarks.cost.rows import DECAY, RATE, Row, Rows, compile_step, jax_row
from benchmarks.flops import first_order_step, obj_fn_step
from benchmarks.models import Problem
from benchmarks.programs import Program

ADAMW = "optax.adamw"


def estimating_step(problem: Problem, tx: Any, **options: Any) -> Callable[..., Any]:
    """Loss, gradient and estimate in one pass."""
    estimate = oah.value_grad_and_hessian_diag(problem.loss_fn, **options)

    def step(params: Any, state: Any, batch: Any, t: Any) -> tuple[Any, Any, jax.Array]:
        loss, grads, hessian_diag = estimate(jax.random.fold_in(jax.random.key(0), t), params, batch)
        updates, state = tx.update(grads, state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), state, loss

    return step


def quarter_step(problem: Problem, tx: Any) -> Callable[..., Any]:
    """The gradient of the whole batch, the estimate from its first quarter."""
    estimate = oah.value_grad_and_hessian_diag(problem.loss_fn)

    def step(params: Any, state: Any, batch: Any, t: Any) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
        quarter = jax.tree.map(lambda x: x[: len(x) // 4], batch)
        _, _, hessian_diag = estimate(jax.random.fold_in(jax.random.key(0), t), params, quarter)
        updates, state = tx.update(grads, state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), state, loss

    return step


def first_order_rows(problem: Problem) -> Rows:
    """Of optax: what everything is compared with."""

    def row(tx: Any) -> Row:
        state = tx.init(problem.params)
        return jax_row(problem, state, [compile_step(problem, _untimed(first_order_step(problem, tx)), state)], 1)

    return {
        "optax.sgd": lambda: row(optax.sgd(RATE, momentum=0.9)),
        ADAMW: lambda: row(optax.adamw(RATE, weight_decay=DECAY)),
    }


def our_rows(problem: Problem, adamw_flops: float) -> Rows:
    """Ours, fed with `hessian_diag` by two compiled steps, and with `obj_fn`."""
    tx = oah.adahessian(RATE, weight_decay=DECAY)
    averaging = oah.adahessian(RATE, weight_decay=DECAY, spatial_average=oah.SpatialAverage.rows("HWIO"))
    state = tx.init(problem.params)

    @functools.cache
    def estimating(tx: Any = tx, **options: Any) -> Program:
        return compile_step(problem, estimating_step(problem, tx, **options), tx.init(problem.params))

    @functools.cache
    def plain(tx: Any = tx) -> Program:
        step = _untimed(first_order_step(problem, tx, hessian_diag=None))
        return compile_step(problem, step, tx.init(problem.params))

    @functools.cache
    def quarter() -> Program:
        return compile_step(problem, quarter_step(problem, tx), state)

    def fed_by_obj_fn(interval: int) -> Row:
        # No dense start: the steady state from the first step.
        tx = oah.adahessian(RATE, weight_decay=DECAY, update_interval=interval, dense_start=0)
        program = compile_step(problem, _untimed(obj_fn_step(problem, tx)), state)
        return jax_row(problem, state, [program], interval, adamw_flops)

    def two_steps(interval: int) -> Row:
        return jax_row(problem, state, [estimating(), plain()] if interval > 1 else [estimating()], interval)

    return {
        **{f"ours, interval {k}": functools.partial(two_steps, k) for k in (1, 10, 50)},
        "ours, a step without an estimate": lambda: jax_row(problem, state, [plain()], 1),
        "ours, rows, interval 10": lambda: jax_row(
            problem, averaging.init(problem.params), [estimating(averaging), plain(averaging)], 10
        ),
        "ours, estimate from a quarter, interval 1": lambda: jax_row(problem, state, [quarter()], 1),
        "ours, estimate from a quarter, interval 10": lambda: jax_row(problem, state, [quarter(), plain()], 10),
        "ours, 4 probes, interval 1": lambda: jax_row(problem, state, [estimating(num_probes=4)], 1),
        "ours, obj_fn, interval 1": lambda: fed_by_obj_fn(1),
        "ours, obj_fn, interval 10 (cond)": lambda: fed_by_obj_fn(10),
        "ours, obj_fn, interval 50 (cond)": lambda: fed_by_obj_fn(50),
    }


def sophia_rows(problem: Problem, adamw_flops: float) -> Rows:
    """Of optax, with its own Hutchinson estimator."""

    def row(interval: int) -> Row:
        tx = optax.contrib.sophia(RATE, weight_decay=DECAY, update_interval=interval)
        state = tx.init(problem.params)
        program = compile_step(problem, _untimed(obj_fn_step(problem, tx)), state)
        return jax_row(problem, state, [program], interval, adamw_flops)

    return {f"optax.contrib.sophia, interval {k}": functools.partial(row, k) for k in (1, 10)}


def somax_rows(problem: Problem, adamw_flops: float) -> Rows:
    """Of the package python-somax."""
    import somax

    def row(interval: int) -> Row:
        method = somax.adahessian(
            loss_fn=problem.loss_fn,
            learning_rate=RATE,
            weight_decay=DECAY,
            eps=1e-4,
            eval_every_k=interval,
            spatial_averaging=False,
        )
        state = method.init(problem.params)

        def step(params: Any, state: Any, batch: Any, t: Any) -> Any:
            del t  # the method counts its own steps
            return method.step(params, batch, state, jax.random.key(0))

        return jax_row(problem, state, [compile_step(problem, step, state)], interval, adamw_flops)

    return {f"somax.adahessian, interval {k}": functools.partial(row, k) for k in (1, 10)}


def _untimed(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step, which takes the number of the step and leaves it alone."""
    return lambda params, state, batch, t: step(params, state, batch)
