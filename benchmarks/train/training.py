"""Whole runs as one program: the same for every row but for its update."""

import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah
from benchmarks import timing
from benchmarks.train.optimizers import Row, Settings
from benchmarks.train.tasks import Task

DENSE_START = 10  # the first steps, which all estimate


def rate_at(t: Any, peak: Any, steps: Any) -> jax.Array:
    """A linear warm-up over the first tenth of the steps, then half a cosine to 0."""
    warmup = 0.1 * steps
    progress = jnp.clip((t - warmup) / (steps - warmup), 0.0, 1.0)
    return peak * jnp.minimum((t + 1) / warmup, 0.5 * (1 + jnp.cos(jnp.pi * progress)))


def make_program(task: Task, row: Row) -> Any:
    """A function from the first parameters to the last; all that is not structure is its argument."""
    estimate = oah.value_grad_and_hessian_diag(task.loss_fn, num_probes=row.num_probes)

    def train(params: Any, data: Any, key: jax.Array, settings: Any, steps: Any, dense_start: Any) -> Any:
        numbers = dict(settings)
        peak, decay = numbers.pop("learning_rate"), numbers.pop("decay", None)
        if decay is not None:  # the product with the rate is what shrinks a parameter
            numbers |= {"weight_decay": decay / peak, "mask": jax.tree.map(lambda p: p.ndim > 1, params)}

        def transformation(t: Any) -> Any:
            rate = rate_at(t, peak, steps)
            return optax.with_extra_args_support(row.make(learning_rate=rate, **numbers))

        def step(estimating: bool, t: Any, carry: Any) -> Any:
            params, state = carry
            batch_key, probe_key = jax.random.split(jax.random.fold_in(key, t))
            batch = task.batch_at(batch_key, data)
            _, grads, diag = estimate(probe_key if estimating else None, params, batch)
            feed: dict[str, Any] = {"hessian_diag": diag} if row.interval else {}
            feed |= {"obj_fn": lambda p: task.loss_fn(p, batch)} if row.takes_loss else {}
            updates, state = transformation(t).update(grads, state, params, **feed)
            return optax.apply_updates(params, updates), state

        def up_to_next_estimate(carry: Any) -> Any:
            """One step that estimates, and those after it that do not: `refresh_due` as two loops, without a cond."""
            t, carry = carry
            carry = step(True, t, carry)
            end = jnp.minimum(jnp.where(t + 1 < dense_start, t + 1, (t // row.interval + 1) * row.interval), steps)
            if row.interval > 1:
                carry = jax.lax.fori_loop(t + 1, end, functools.partial(step, False), carry)
            return end, carry

        carry = params, transformation(0).init(params)
        if row.interval:
            return jax.lax.while_loop(lambda c: c[0] < steps, up_to_next_estimate, (jnp.int32(0), carry))[1][0]
        return jax.lax.fori_loop(0, steps, functools.partial(step, False), carry)[0]

    return jax.jit(train)


class Trainer:
    """A row on a task, compiled when it is made, in so many seconds of one core."""

    def __init__(self, task: Task, row: Row) -> None:
        self._task, self._row, self._program = task, row, make_program(task, row)
        self._measure = jax.jit(task.measure or task.loss_fn)
        start = time.process_time()
        self.seconds(0)
        self.compile_seconds = round(time.process_time() - start, 3)

    def train(self, settings: Settings, seed: int, steps: int, dense_start: int = DENSE_START) -> dict[str, Any]:
        """Losses on the validation and the test part, None where not finite."""
        train, validation, test = self._task.parts(seed)
        params, train = jax.device_put((self._task.init(np.random.default_rng(seed)), train))
        numbers = {name: jnp.float32(value) for name, value in settings.items()}
        counts = jnp.int32(steps), jnp.int32(dense_start)
        trained, seconds = timing.timed(self._program, params, train, jax.random.key(seed), numbers, *counts)
        parts = {"validation": validation, "test": test}
        losses = {name: float(self._measure(trained, part)) for name, part in parts.items()}
        finite = {name: float(f"{loss:.6g}") if math.isfinite(loss) else None for name, loss in losses.items()}
        return finite | {"seconds": round(seconds, 4)}

    def seconds(self, steps: int, dense_start: int = DENSE_START) -> float:
        """Of so many steps, at a rate so low that nothing diverges."""
        decay = {"decay": 0.0} if self._task.decays else {}
        return self.train(self._row.numbers | decay | {"learning_rate": 1e-6}, 0, steps, dense_start)["seconds"]
