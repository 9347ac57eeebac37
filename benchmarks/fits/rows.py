"""What is compared: every row takes as many gradients, and all its rates and seeds are one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import scipy.optimize
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah
from benchmarks import programs, timing
from benchmarks.fits.models import Fit, Params

GRADIENTS, SEEDS, STARTS, ITERATIONS = 15_000, 3, 100, 1_000  # of a run; of a rate; for their mean; of L-BFGS
OURS, OUTSIDE, WIDE, ADAM = "ours", "ours, hessian_diag", "ours, six decades", "Adam"


class Row(NamedTuple):
    """An optimizer at several rates, which rise over a twentieth of the steps, stay to a quarter, and fall to 1e-3."""

    make: Callable[..., Any]  # of a schedule
    rates: tuple[float, ...]
    gradients: float = 1.0  # of a step; an estimate counts two
    diag_outside: bool = False  # takes `hessian_diag`; else, what it needs, from `obj_fn`
    coordinates: str = "natural"


_RATES, _SIX_DECADES = (0.15, 0.5, 1.0, 2.0), tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-8, 5))
_ours = functools.partial(oah.adahessian, b2=0.95, eps=0.0)
_equilibrated = functools.partial(_ours, equilibrate=True)
ROWS: dict[str, Row] = {
    OURS: Row(_equilibrated, _RATES, 3.0),
    OUTSIDE: Row(_ours, _RATES, 3.0, diag_outside=True),
    "ours, not centred": Row(_equilibrated, _RATES, 3.0, coordinates="not centred"),
    WIDE: Row(_equilibrated, _SIX_DECADES, 3.0),
    "paper's rule": Row(oah.adahessian, _SIX_DECADES[4:-2], 3.0),
    ADAM: Row(optax.adam, _SIX_DECADES),
    "NAdam": Row(optax.nadam, _SIX_DECADES),
    "Adam, by hand": Row(optax.adam, _SIX_DECADES, coordinates="by hand"),
    "Sophia": Row(functools.partial(optax.contrib.sophia, weight_decay=0.0), _SIX_DECADES, 1.2),  # each tenth estimates
}
SOLVERS = {  # of what is deterministic, from the start, until they stop by themselves
    "L-BFGS": optimistix.OptaxMinimiser(optax.lbfgs(), rtol=1e-9, atol=1e-9),
    "Levenberg-Marquardt": optimistix.LevenbergMarquardt(rtol=1e-9, atol=1e-9),
}


def training(fit: Fit, row: Row, steps: int) -> Callable[[jax.Array, Params, jax.Array], Params]:
    """A function of a rate, a start and a key that returns the last parameters, in natural units."""
    to_natural = fit.to_natural.get(row.coordinates, lambda params: params)
    shape = optax.warmup_exponential_decay_schedule(0.0, 1.0, steps // 20, 3 * steps // 4, 1e-3, steps // 5)

    def loss_fn(params: Params, batch: Any) -> jax.Array:
        return fit.loss_fn(to_natural(params), batch)

    def train(rate: jax.Array, params: Params, key: jax.Array) -> Params:
        tx = optax.with_extra_args_support(row.make(lambda t: rate * shape(t)))

        def step(carry: Any, t: jax.Array) -> Any:
            params, state = carry
            batch_key, probe_key = jax.random.split(jax.random.fold_in(key, t))
            batch = fit.batch_at(batch_key, fit.everything) if fit.batch_at else fit.everything
            if row.diag_outside:
                estimate, scale = oah.value_grad_and_hessian_diag(loss_fn), oah.probe_scale(state, params)
                _, grads, diag = estimate(probe_key, params, batch, probe_scale=scale)
                updates, state = tx.update(grads, state, params, hessian_diag=diag)
            else:
                grads = jax.grad(loss_fn)(params, batch)
                updates, state = tx.update(grads, state, params, obj_fn=lambda p: loss_fn(p, batch))
            return (optax.apply_updates(params, updates), state), None

        return to_natural(jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))[0][0])

    return train


def _solve(fit: Fit, solver: Any, start: Params) -> tuple[Params, jax.Array]:
    """The last parameters, as of one rate and seed, and the iterations."""
    found = optimistix.least_squares(lambda p, _: fit.residuals(p), solver, start, max_steps=ITERATIONS, throw=False)
    return jax.tree.map(lambda p: p[None, None], found.value), found.stats["num_steps"]


def _polished(fit: Fit, best: Params) -> float:
    """The loss after L-BFGS in float64 from the best parameters, over their typical sizes."""
    ones = jax.tree.map(lambda p: jnp.ones_like(p, dtype=float), best)
    size = jnp.abs(ravel_pytree(jax.jvp(fit.to_natural["by hand"], (ones,), (ones,))[1])[0])
    flat, unravel = ravel_pytree(jax.tree.map(lambda p: jnp.asarray(p, float), best))
    fun = jax.jit(jax.value_and_grad(lambda x: fit.loss_fn(unravel(x * size), fit.everything)))
    options = {"maxiter": ITERATIONS, "ftol": 0.0, "gtol": 0.0, "maxcor": 50}
    return float(scipy.optimize.minimize(fun, flat / size, jac=True, method="L-BFGS-B", options=options).fun)


def measure(fit: Fit, gradients: int) -> list[dict[str, Any]]:
    """Of each row the losses that it reached, by rate and seed; also the optimum, and the mean loss of many starts."""
    starts = jax.tree.map(lambda *p: jnp.stack(p), *(fit.init(np.random.default_rng(seed)) for seed in range(STARTS)))
    keys, ends, records = jax.random.split(jax.random.key(0), SEEDS), {}, {}
    for name, row in ((name, row) for name, row in ROWS.items() if row.coordinates in {"natural", *fit.to_natural}):
        train = jax.vmap(training(fit, row, round(gradients / row.gradients)), (None, 0, 0))
        args = jnp.asarray(row.rates), jax.tree.map(lambda p: p[:SEEDS], starts), keys
        ends[name], seconds = timing.timed(programs.compile_program(jax.vmap(train, (0, None, None)), *args).run, *args)
        records[name] = {"rates": row.rates, "gradients": gradients, "seconds": seconds / (len(row.rates) * SEEDS)}
    for name, solver in SOLVERS.items() if fit.residuals else ():
        solve, first = functools.partial(_solve, fit, solver), jax.tree.map(lambda p: p[0], starts)
        (ends[name], iterations), seconds = timing.timed(programs.compile_program(solve, first).run, first)
        records[name] = {"rates": [None], "iterations": int(iterations), "seconds": seconds}
    loss = jax.jit(jax.vmap(jax.vmap(lambda params: fit.loss_fn(params, fit.everything))))
    losses = {name: np.nan_to_num(loss(end), nan=np.inf, posinf=np.inf, neginf=np.inf) for name, end in ends.items()}
    for name, found in losses.items():
        records[name]["losses"] = np.where(found < np.inf, found, None).tolist()
    lowest = min(losses, key=lambda name: losses[name].min())
    where = np.unravel_index(losses[lowest].argmin(), losses[lowest].shape)
    best = jax.tree.map(lambda p: p[where], ends[lowest])
    start = np.mean(loss(jax.tree.map(lambda p: p[None], starts))).item()
    optimum = min(losses[lowest][where].item(), _polished(fit, best))
    known = {"parameters": optax.tree.size(best), "start": start, "optimum": optimum}
    return [known | {"optimizer": name} | record for name, record in records.items()]
