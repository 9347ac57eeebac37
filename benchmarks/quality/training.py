"""One run of training, the same for every optimizer but for its update."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah
from benchmarks.quality.optimizers import Optimizer, Settings
from benchmarks.quality.task import Task

Due = Callable[[int, int], bool]  # whether a step estimates, from the step and the interval

due_at_once: Due = functools.partial(oah.refresh_due, dense_start=0)  # which `max_step` makes safe
WAIT = 10  # steps between looks at the loss, so that the queue of steps stays short


def rate_at(t: Any, peak: Any, steps: Any) -> jax.Array:
    """A linear warm-up over the first tenth of the steps, then half a cosine to 0."""
    warmup = 0.1 * steps
    progress = jnp.clip((t - warmup) / (steps - warmup), 0.0, 1.0)
    return peak * jnp.minimum((t + 1) / warmup, 0.5 * (1 + jnp.cos(jnp.pi * progress)))


def make_programs(
    task: Task, optimizer: Optimizer, static: Settings, num_probes: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The step with an estimate of the diagonal and that without; one and the same where no diagonal is taken.

    Numbers are arguments, so that all learning rates share one compilation.
    """
    estimate = oah.value_grad_and_hessian_diag(task.loss_fn, num_probes=num_probes)

    def step(carry: Any, numbers: Any, key: jax.Array, batch: Any, estimating: bool) -> Any:
        params, state, t = carry
        settings = {name: value for name, value in numbers.items() if name not in ("learning_rate", "steps")}
        rate = rate_at(t, numbers["learning_rate"], numbers["steps"])
        tx = optax.with_extra_args_support(optimizer.make(learning_rate=rate, **settings, **static))
        feed: dict[str, Any] = {"hessian_diag": None}
        if estimating:
            loss, grads, feed["hessian_diag"] = estimate(jax.random.fold_in(key, t), params, batch)
        else:
            loss, grads = jax.value_and_grad(task.loss_fn)(params, batch)
        if not optimizer.takes_diagonal:
            feed = {"obj_fn": lambda p: task.loss_fn(p, batch)}
        updates, state = tx.update(grads, state, params, **feed)
        return (optax.apply_updates(params, updates), state, t + 1), loss

    compiled = jax.jit(step, static_argnames="estimating", donate_argnums=0)

    def plain_step(*args: Any) -> Any:
        return compiled(*args, estimating=False)

    def estimating_step(*args: Any) -> Any:
        return compiled(*args, estimating=True)

    return (estimating_step if optimizer.takes_diagonal else plain_step), plain_step


class Loop:
    """Training that goes on where it stopped."""

    def __init__(self, trainer: Trainer, settings: Settings, seed: int, steps: int, due: Due = due_at_once) -> None:
        settings = dict(settings)
        self._interval, self._due = settings.pop("update_interval", 1), due
        params = trainer.task.init(jax.random.key(seed))
        state = trainer.optimizer.make(**settings).init(params)
        self._carry = jax.tree.map(jnp.copy, (params, state, jnp.int32(0)))  # whose buffers each step takes over
        self._key = jax.random.key(seed)
        static = {name: settings.pop(name) for name in trainer.optimizer.static}
        self._estimating_step, self._plain_step = trainer.programs(static)
        self._numbers = {name: jnp.float32(value) for name, value in (settings | {"steps": steps}).items()}
        self.t = 0

    @property
    def params(self) -> Any:
        """The parameters after `t` steps."""
        return self._carry[0]

    def step(self, batch: Any) -> jax.Array:
        """One step; the loss before it."""
        program = self._estimating_step if self._due(self.t, self._interval) else self._plain_step
        self._carry, loss = program(self._carry, self._numbers, self._key, batch)
        self.t += 1
        return loss


class Trainer:
    """An optimizer on a task, with its programs."""

    def __init__(self, task: Task, optimizer: Optimizer, num_probes: int = 1) -> None:
        self.task, self.optimizer, self._num_probes = task, optimizer, num_probes
        self._measure = jax.jit(task.measure)
        self._programs: dict[tuple[Any, ...], Any] = {}

    def programs(self, static: Settings) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled once for each choice of the static settings."""
        key = tuple(static.values())
        if key not in self._programs:
            self._programs[key] = make_programs(self.task, self.optimizer, static, self._num_probes)
        return self._programs[key]

    def train(
        self, settings: Settings, seed: int, steps: int, evaluations: int = 0, due: Due = due_at_once
    ) -> dict[str, Any]:
        """Losses on validation and test part, the latter also at so many steps on the way; None where it diverged."""
        loop, rng, data = Loop(self, settings, seed, steps, due), np.random.default_rng(seed), self.task.data(seed)
        points = np.unique(np.linspace(0, steps, evaluations + 1).round().astype(int))[1:].tolist()
        curve: list[float | None] = []
        while loop.t < steps:
            loss = loop.step(data.batch_at(rng))
            if loop.t % WAIT == 0 and math.isnan(loss):
                break
            if loop.t in points:
                curve.append(self._loss(loop, data.test))
        diverged = loop.t < steps
        curve += [None] * (len(points) - len(curve))
        return {
            "validation": None if diverged else self._loss(loop, data.validation),
            "test": None if diverged else self._loss(loop, data.test),
            "curve": {"steps": points, "test": curve},
        }

    def _loss(self, loop: Loop, part: Any) -> float | None:
        loss = float(self._measure(loop.params, part))
        return loss if math.isfinite(loss) else None
