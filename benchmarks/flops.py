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
    return float(jax.jit(fun).lower(*args).compile().cost_analysis()["flops"])


def ratios(name: str) -> dict[str, float]:
    """The operations of each way to estimate over those of one gradient; of a skipped step over those of adamw's."""
    problem, key = PROBLEMS[name](), jax.random.key(0)
    data = key, problem.params, problem.batch
    gradient = count(jax.value_and_grad(problem.loss_fn), problem.params, problem.batch)

    def estimate(**options: Any) -> float:
        return count(oah.value_grad_and_hessian_diag(problem.loss_fn, **options), *data) / gradient

    def training_step(step: Callable[..., Any], tx: optax.GradientTransformation) -> float:
        return count(step, problem.params, tx.init(problem.params), problem.batch)

    tx, adamw = oah.adahessian(), optax.adamw(1e-3)
    skipped = training_step(first_order_step(problem, tx, hessian_diag=None), tx)
    return {
        "one pass": estimate(),
        "one pass, 4 probes": estimate(num_probes=4),
        "reverse over reverse": estimate(hvp="reverse_over_reverse"),
        "step with obj_fn, interval 1": training_step(obj_fn_step(problem, tx), tx) / gradient,
        "skipped step, over adamw's": skipped / training_step(first_order_step(problem, adamw), adamw),
    }


def main() -> None:
    """Prints the table in Markdown."""
    columns = {name: ratios(name) for name in tqdm(PROBLEMS)}
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(f'{column[row]:.2f}' for column in columns.values())} |")


if __name__ == "__main__":
    main()
