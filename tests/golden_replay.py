"""Replays a recorded run through the library, from its recorded products or end to end, and measures the difference."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from golden_cases import CASES, Layout, arrays, as_recorded, hessian_diag, recorded, spatial_average
from golden_problems import loss_fn

import optax_adahessian as oah

# "optimizer": gradients, probes and Hessian-vector products as recorded. "end to end": the loss rebuilt, gradients and
# products our own, the probes as recorded.
Way = Literal["optimizer", "end to end"]

TOLERANCE = {
    ("optimizer", "float64"): 1e-12,
    ("optimizer", "float32"): 2e-5,
    ("end to end", "float64"): 1e-10,
    ("end to end", "float32"): 5e-4,
}

# Nearly all the time of a replay goes into compiling it; this setting makes it compile faster.
COMPILE_FAST = {"xla_cpu_use_fusion_emitters": False}


class Trace(NamedTuple):
    """What a run went through: per parameter an array with the steps in front, in the layout of the replay."""

    params: dict[str, Any]  # after each step
    curvature: dict[str, Any]  # d, at block size
    mu: dict[str, Any]
    nu: dict[str, Any]  # at block size


def optimizer(
    case_id: str,
    layout: Layout,
    update_interval: int,
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Our optimizer with every hyper-parameter of the case named, so that no default of ours can matter."""
    hyper, rates = CASES[case_id]["hyper"], arrays(case_id)["lr"]
    return oah.adahessian(
        learning_rate=lambda count: jnp.asarray(rates)[count],
        b1=hyper["betas"][0],
        b2=hyper["betas"][1],
        eps=hyper["eps"],
        hessian_power=hyper["hessian_power"],
        weight_decay=hyper["weight_decay"],
        mask=None,
        update_interval=update_interval,
        dense_start=0,
        spatial_average=spatial_average(case_id, layout),
        mu_dtype=None,
        hessian_diagonal_fn=hessian_diagonal_fn,
    )


def recorded_probes() -> optax.GradientTransformationExtraArgs:
    """An estimator that takes its probes from the caller, and returns its last estimate where none is due."""

    def init_fn(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def update_fn(
        updates: Any, state: Any, params: Any, *, obj_fn: Any, probes: Any, fresh: jax.Array, **extra_args: Any
    ) -> tuple[Any, Any]:
        del updates, extra_args
        products = jax.vmap(lambda z: oah.hessian_vector_product(obj_fn, params, z))(probes)
        estimate = jax.tree.map(lambda z, hz: jnp.mean(z * hz, axis=0), probes, products)
        last = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), estimate, state)
        return last, last

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def replay(case_id: str, way: Way, layout: Layout, dtype: str) -> Trace:
    """Free running from the recorded first parameters; needs `jax.enable_x64` for float64."""

    # With b2 = 0 the second moment is the square of the last block mean: what entered it can be read off the state.
    last_curvature = oah.scale_by_adahessian(
        b1=0.0,
        b2=0.0,
        eps=0.0,
        hessian_power=1.0,
        update_interval=1,
        dense_start=0,
        spatial_average=spatial_average(case_id, layout),
        mu_dtype=None,
        hessian_diagonal_fn=None,
    )
    b2 = CASES[case_id]["hyper"]["betas"][1]
    tx, step, inputs = (_from_products if way == "optimizer" else _end_to_end)(case_id, layout, dtype)

    def one_step(carry: Any, step_inputs: Any) -> Any:
        params, state, curvature_state = carry
        updates, state, diag = step(params, state, step_inputs)
        params = optax.apply_updates(params, updates)
        _, curvature_state = last_curvature.update(updates, curvature_state, hessian_diag=diag)
        curvature = jax.tree.map(jnp.sqrt, curvature_state.nu)
        # The state holds the corrected second moment, the originals' the one before the correction.
        weight = -jnp.expm1(state[0].count * jnp.log(b2)) if b2 else 1.0
        nu = jax.tree.map(lambda v: v * weight, state[0].nu)
        mu = updates if state[0].mu is None else state[0].mu
        return (params, state, curvature_state), Trace(params, curvature, mu, nu)

    def run(start: Any, inputs: Any) -> Trace:
        return jax.lax.scan(one_step, (start, tx.init(start), last_curvature.init(start)), inputs)[1]

    start = _cast({name: p[0] for name, p in recorded(case_id, "p", layout).items()}, dtype)
    return jax.tree.map(np.asarray, jax.jit(run, compiler_options=COMPILE_FAST)(start, inputs))


def errors(case_id: str, trace: Trace, layout: Layout) -> dict[str, float]:
    """The largest difference from the record: absolute for parameters, else relative to max(1, recorded)."""
    after = {name: p[1:] for name, p in recorded(case_id, "p", layout).items()}
    worst = {"params": max(np.max(np.abs(trace.params[name] - p)) for name, p in after.items())}
    for field, kind in (("curvature", "d"), ("mu", "m"), ("nu", "v")):
        worst[field] = max(
            np.max(np.abs(_expanded(getattr(trace, field)[name], x.shape) - x) / np.maximum(1, np.abs(x)))
            for name, x in recorded(case_id, kind, layout).items()
        )
    return {field: float(error) for field, error in worst.items()}


def check(case_id: str, way: Way, layout: Layout, dtype: str) -> None:
    """Raises AssertionError where the library does not do what was recorded."""
    with jax.enable_x64(dtype == "float64"):
        worst = errors(case_id, replay(case_id, way, layout, dtype), layout)
    allowed = _allowed(case_id, way, dtype)
    # Written so that a NaN fails.
    wrong = {field: error for field, error in worst.items() if not error <= allowed[field]}
    assert not wrong, f"{case_id}, {way}, {layout} layout, {dtype}: {wrong} beyond {allowed}"


def _allowed(case_id: str, way: Way, dtype: str) -> dict[str, float]:
    """The tolerance of each field of a trace."""
    allowed = dict.fromkeys(Trace._fields, TOLERANCE[way, dtype])
    problem = CASES[case_id]["problem"]
    if (way, dtype, problem["kind"]) == ("end to end", "float32", "poly_sin_2d"):
        # Where parameters differ, gradient and curvature differ by as much times the largest derivative after them.
        a, b, c, s, w = (problem[name] for name in "abcsw")
        allowed["mu"] *= max(1, 2 * max(a, b) + c + 2 * s * w**2)
        allowed["curvature"] *= max(1, 4 * s * w**3)
    return allowed


def _from_products(case_id: str, layout: Layout, dtype: str) -> tuple[Any, Any, Any]:
    # The interval acts on `obj_fn` alone: every diagonal that is handed in counts, the repeated ones, too.
    tx = optimizer(case_id, layout, update_interval=CASES[case_id]["update_each"])

    def step(params: Any, state: Any, inputs: Any) -> Any:
        grads, diag = inputs
        return *tx.update(grads, state, params, hessian_diag=diag), diag

    return tx, step, _cast((recorded(case_id, "g", layout), hessian_diag(case_id, layout)), dtype)


def _end_to_end(case_id: str, layout: Layout, dtype: str) -> tuple[Any, Any, Any]:
    tx = optimizer(case_id, layout, update_interval=1, hessian_diagonal_fn=recorded_probes())
    recorded_loss = loss_fn(CASES[case_id], arrays(case_id), dtype)

    def loss(params: Any) -> jax.Array:
        return recorded_loss(as_recorded(case_id, params, layout))

    def step(params: Any, state: Any, inputs: Any) -> Any:
        probes, fresh = inputs
        updates, state = tx.update(jax.grad(loss)(params), state, params, obj_fn=loss, probes=probes, fresh=fresh)
        return updates, state, state[0].estimator

    return tx, step, (_cast(recorded(case_id, "z", layout), dtype), arrays(case_id)["fresh"])


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def _expanded(x: Any, shape: tuple[int, ...]) -> Any:
    """One entry per block repeated to `shape`."""
    return np.kron(x, np.ones([size // blocks for size, blocks in zip(shape, x.shape, strict=True)]))
