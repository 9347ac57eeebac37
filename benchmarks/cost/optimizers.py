"""The optimizers in JAX, each with the step that its users write, and how a step is compiled and run."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import optax_adahessian as oah
from benchmarks.models import Problem
from benchmarks.programs import compile_program, tree_bytes

RATE, DECAY = 1e-5, 1e-4  # so low that nothing converges, diverges or becomes denormal while it is timed
KEY = jax.random.key(0)
ADAMW, TORCH_ADAMW, PLAIN = "optax.adamw", "torch.optim.AdamW", "ours, no estimate"
CLIPPED = "optax.adamw after clip_by_global_norm"  # it also needs the whole gradient before the first update
MOMENTUM = "ours after adaptive_nesterov, "
EQUILIBRATED = "ours, equilibrated"


class Method(NamedTuple):
    """A way to train: ``params, state, loss = step(params, state, key, batch)``."""

    init: Callable[[Any], Any]
    step: Callable[..., Any]
    interval: int = 1
    keyed: bool = False  # the step without a key is then a program of its own, without an estimate


class Row(NamedTuple):
    """An optimizer on a model, ready to be timed."""

    train: Callable[[int], None]  # takes so many steps from where it stopped, and waits for the results
    interval: int
    costs: dict[str, float]


def adahessian(momentum: bool = False, **options: Any) -> optax.GradientTransformationExtraArgs:
    """The recommended call if `momentum` is true, else the same with the rule's own momentum."""
    first = [oah.adaptive_nesterov()] if momentum else []
    options = {"b1": 0 if momentum else 0.9, "b2": 0.98, "eps": 1e-8, "weight_decay": DECAY, **options}
    return optax.chain(*first, oah.adahessian(RATE, **options), optax.clip(0.01))


def train_step(
    loss_fn: Any, tx: Any, feed: str | None = None, equilibrate: bool = False, **options: Any
) -> Callable[..., Any]:
    """A step that feeds `update` with curvature as "hessian_diag" or "obj_fn", or not at all."""
    estimate = oah.value_grad_and_hessian_diag(loss_fn, **options)

    def step(params: Any, state: Any, key: jax.Array | None, batch: Any) -> tuple[Any, Any, jax.Array]:
        if feed == "hessian_diag":
            scale = oah.probe_scale(state, params) if equilibrate else None
            loss, grads, hessian_diag = estimate(key, params, batch, probe_scale=scale)
            extra = {"hessian_diag": hessian_diag}
        else:
            loss, grads = jax.value_and_grad(loss_fn)(params, batch)
            extra = {"obj_fn": lambda p: loss_fn(p, batch)} if feed else {}
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state, loss

    return step


def methods(problem: Problem) -> dict[str, Method]:
    """Every optimizer in JAX that is installed, by the name of its row."""

    def method(tx: Any, feed: str | None = None, interval: int = 1, keyed: bool = False) -> Method:
        return Method(tx.init, train_step(problem.loss_fn, tx, feed), interval, keyed)

    adamw, ours, momentum = optax.adamw(RATE, weight_decay=DECAY), adahessian(), adahessian(momentum=True)
    found = {
        ADAMW: method(adamw),
        CLIPPED: method(optax.chain(optax.clip_by_global_norm(1), adamw)),
        PLAIN: method(ours, "hessian_diag"),
        **{f"ours, interval {k}": method(ours, "hessian_diag", k, keyed=True) for k in (1, 10, 50)},
        MOMENTUM + "no estimate": method(momentum, "hessian_diag"),
        **{f"{MOMENTUM}interval {k}": method(momentum, "hessian_diag", k, keyed=True) for k in (1, 10)},
    }
    equilibrated = oah.adahessian(RATE, b2=0.95, eps=0.0, weight_decay=DECAY)
    step = train_step(problem.loss_fn, equilibrated, "hessian_diag", equilibrate=True)
    found[EQUILIBRATED] = Method(equilibrated.init, step, keyed=True)
    for k in (1, 10):  # no dense start: the steady state from the first step
        found[f"ours, obj_fn, interval {k}"] = method(adahessian(update_interval=k, dense_start=0), "obj_fn", k)
    for k in (1, 10):
        sophia = optax.contrib.sophia(RATE, weight_decay=DECAY, update_interval=k)
        found[f"optax.contrib.sophia, interval {k}"] = method(sophia, "obj_fn", k)
    if importlib.util.find_spec("somax"):
        import somax

        options = {"loss_fn": problem.loss_fn, "learning_rate": RATE, "weight_decay": DECAY, "spatial_averaging": False}
        for k in (1, 10):  # it counts its own steps, so that one key serves all
            peer = somax.adahessian(eps=1e-4, eval_every_k=k, **options)
            step = lambda params, state, key, batch, peer=peer: peer.step(params, batch, state, KEY)  # noqa: E731
            found[f"somax.adahessian, interval {k}"] = Method(peer.init, step, k)
    return found


def make_row(problem: Problem, method: Method, adamw: dict[str, float]) -> Row:
    """The loop of a method, whose programs reuse the buffers of parameters and state.

    Its operations and bytes are the mean over an interval. Where one program contains steps with and without an
    estimate, XLA counts the dearer, and the others are counted with the costs of `adamw`.
    """
    state = jax.eval_shape(method.init, problem.params)
    keys = [None] if not method.keyed else [KEY] if method.interval == 1 else [KEY, None]
    due, *others = (
        compile_program(method.step, problem.params, state, key, problem.batch, donate=(0, 1)) for key in keys
    )
    other = others[0] if others else due
    carry = jax.tree.map(jnp.copy, (problem.params, method.init(problem.params)))
    t = 0

    def train(steps: int) -> None:
        nonlocal carry, t
        for _ in range(steps):
            key = oah.refresh_key(KEY, t, method.interval, dense_start=0) if method.keyed else None
            *carry, _ = (due if t % method.interval == 0 else other).run(*carry, key, problem.batch)
            t += 1
        jax.block_until_ready(carry)

    k, rest = method.interval, other.costs if others else adamw
    costs = {name: (due.costs[name] + (k - 1) * rest.get(name, 0)) / k for name in ("flops", "bytes_accessed")}
    costs |= {
        "temp_bytes": max(due.costs["temp_bytes"], other.costs["temp_bytes"]),
        "compile_seconds": sum(sum(program.seconds.values()) for program in (due, *others)),
        "state_bytes": tree_bytes(carry[1]),
    }
    return Row(train, method.interval, costs)
