"""The floating-point operations of a step by XLA's own count, in units of one value_and_grad.

Run it with `python -m benchmarks.flops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks.models import Problem, conv_net, mlp, transformer
from benchmarks.programs import compile_program

PROBLEMS = {
    "mlp": lambda: mlp(batch_size=256),
    "conv_net": conv_net,
    "transformer": lambda: transformer(batch_size=16, length=64),
}


def obj_fn_step(problem: Problem, tx: optax.GradientTransformationExtraArgs) -> Callable[..., Any]:
    """A training step that hands the loss to `update`."""

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        def obj_fn(p: Any) -> jax.Array:
            return problem.loss_fn(p, batch)

        loss, grads = jax.value_and_grad(obj_fn)(params)
        updates, state = tx.update(grads, state, params, obj_fn=obj_fn)
        return optax.apply_updates(params, updates), state, loss

    return step


def first_order_step(problem: Problem, tx: optax.GradientTransformationExtraArgs, **feed: Any) -> Callable[..., Any]:
    """A training step of one gradient; `feed` is what `update` gets besides."""

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params, **feed)
        return optax.apply_updates(params, updates), state, loss

    return step


def count(fun: Callable[..., Any], *args: Any) -> float:
    """What XLA counts in the compiled program."""
    return compile_program(fun, *args).flops


def over_gradient(problem: Problem, fun: Callable[..., Any], *args: Any) -> float:
    """The operations of a program over those of one gradient."""
    return count(fun, *args) / count(jax.value_and_grad(problem.loss_fn), problem.params, problem.batch)


def estimate(problem: Problem, **options: Any) -> float:
    """Of loss, gradient and estimate in one pass."""
    fun = oah.value_grad_and_hessian_diag(problem.loss_fn, **options)
    return over_gradient(problem, fun, jax.random.key(0), problem.params, problem.batch)


def whole_step(problem: Problem) -> float:
    """Of a step that hands the loss to `update`."""
    tx = oah.adahessian()
    return over_gradient(problem, obj_fn_step(problem, tx), problem.params, tx.init(problem.params), problem.batch)


def skipped_step(problem: Problem) -> float:
    """Of a step without an estimate, over those of a step of adamw."""

    def step(tx: optax.GradientTransformationExtraArgs, **feed: Any) -> float:
        return count(first_order_step(problem, tx, **feed), problem.params, tx.init(problem.params), problem.batch)

    return step(oah.adahessian(), hessian_diag=None) / step(optax.adamw(1e-3))


ROWS = {
    "one pass": estimate,
    "one pass, 4 probes": lambda problem: estimate(problem, num_probes=4),
    "reverse over reverse": lambda problem: estimate(problem, hvp="reverse_over_reverse"),
    "step with obj_fn, interval 1": whole_step,
    "skipped step, over adamw's": skipped_step,
}


def main() -> None:
    """Prints the table in Markdown."""
    problems = {name: make() for name, make in PROBLEMS.items()}
    print(f"| | {' | '.join(problems)} |\n|---|{'---|' * len(problems)}")
    for row, ratio in tqdm(ROWS.items()):
        print(f"| {row} | {' | '.join(f'{ratio(problem):.2f}' for problem in problems.values())} |")


if __name__ == "__main__":
    main()
