"""What is compared: every row takes as many gradients, and all its rates and seeds are one program."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optimistix
import scipy.optimize
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah
from benchmarks.fits.models import Fit, Params

GRADIENTS, SEEDS, ITERATIONS = 15_000, 3, 1_000  # of a run; of a rate; of a solver, at most
OURS, WIDE, ADAM = "ours", "ours, six decades", "Adam"


class Row(NamedTuple):
    """An optimizer at several rates, which rise over a twentieth of the steps, stay to a quarter, and fall to 1e-3."""

    make: Callable[..., Any]  # of a schedule
    rates: tuple[float, ...]
    gradients: float = 1.0  # of a step; an estimate counts two
    diag_outside: bool = False  # takes `hessian_diag`; else, what it needs, from `obj_fn`
    coordinates: str = "natural"  # or "by_hand" or "not_centred": the field of the fit that leads to the natural ones


def _half_decades(low: int, high: int) -> tuple[float, ...]:
    return tuple(float(f"{10 ** (k / 2):.3g}") for k in range(low, high + 1))


_ours = functools.partial(oah.adahessian, b2=0.95, eps=0.0)
_equilibrated = functools.partial(_ours, equilibrate=True)
_RATES, _SIX_DECADES = (0.15, 0.5, 1.0, 2.0), _half_decades(-8, 4)
ROWS: dict[str, Row] = {
    OURS: Row(_equilibrated, _RATES, 3.0),
    "ours, hessian_diag": Row(_ours, _RATES, 3.0, diag_outside=True),
    "ours, by hand": Row(_equilibrated, _RATES, 3.0, coordinates="by_hand"),
    "ours, not centred": Row(_equilibrated, _RATES, 3.0, coordinates="not_centred"),
    WIDE: Row(_equilibrated, _SIX_DECADES, 3.0),
    "paper's rule": Row(oah.adahessian, _half_decades(-4, 2), 3.0),
    ADAM: Row(optax.adam, _SIX_DECADES),
    "NAdam": Row(optax.nadam, _SIX_DECADES),
    "Adam, by hand": Row(optax.adam, _SIX_DECADES, coordinates="by_hand"),
    "Sophia": Row(optax.contrib.sophia, _SIX_DECADES, 1.2),  # an estimate every ten steps
}


def training(fit: Fit, row: Row, steps: int) -> Callable[[jax.Array, jax.Array], Params]:
    """A function of a rate and a key that returns the last parameters, in natural units."""
    to_natural = getattr(fit, row.coordinates)
    shape = optax.warmup_exponential_decay_schedule(0.0, 1.0, steps // 20, 3 * steps // 4, 1e-3, steps // 5)

    def loss_fn(params: Params, batch: Any) -> jax.Array:
        return fit.loss_fn(to_natural(params), batch)

    estimate = oah.value_grad_and_hessian_diag(loss_fn)

    def train(rate: jax.Array, key: jax.Array) -> Params:
        tx = optax.with_extra_args_support(row.make(lambda t: rate * shape(t)))

        def step(carry: Any, t: jax.Array) -> Any:
            params, state = carry
            batch_key, probe_key = jax.random.split(jax.random.fold_in(key, t))
            batch = fit.batch_at(batch_key) if fit.batch_at else fit.everything
            if row.diag_outside:
                scale = oah.probe_scale(state, params)
                _, grads, diag = estimate(probe_key, params, batch, probe_scale=scale)
                updates, state = tx.update(grads, state, params, hessian_diag=diag)
            else:
                grads = jax.grad(loss_fn)(params, batch)
                updates, state = tx.update(grads, state, params, obj_fn=lambda p: loss_fn(p, batch))
            return (optax.apply_updates(params, updates), state), None

        params = (fit.init_by_hand if row.coordinates == "by_hand" else fit.init)(key)
        return to_natural(jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))[0][0])

    return train


class Measurement:
    """A fit, and the best parameters that any row has reached."""

    def __init__(self, fit: Fit) -> None:
        self._fit, self._loss = fit, jax.jit(fit.loss_fn)
        self._keys = jax.random.split(jax.random.key(0), SEEDS)
        self._best, self._lowest = None, math.inf
        self.start = sum(self.loss(fit.init(key)) for key in self._keys) / SEEDS

    def loss(self, params: Params) -> float | None:
        """Of all observations; None if it is not finite."""
        loss = float(self._loss(params, self._fit.everything))
        if loss < self._lowest:
            self._best, self._lowest = params, loss
        return loss if math.isfinite(loss) else None

    def row(self, row: Row, gradients: int = GRADIENTS) -> dict[str, Any]:
        """All rates from all seeds; seconds are those of one run."""
        rates = jnp.asarray(row.rates)
        train = jax.vmap(jax.vmap(training(self._fit, row, round(gradients / row.gradients)), (None, 0)), (0, None))
        ends, seconds = _timed(train, rates, self._keys)
        runs = [[jax.tree.map(lambda p, i=i, j=j: p[i, j], ends) for j in range(SEEDS)] for i in range(len(rates))]
        losses = [[self.loss(params) for params in of_rate] for of_rate in runs]
        return {"rates": row.rates, "losses": losses, "gradients": gradients, "seconds": seconds / (len(rates) * SEEDS)}

    def solver(self, levenberg_marquardt: bool) -> dict[str, Any]:
        """In natural units, from the start, until it stops by itself."""

        def solve(start: Params) -> Any:
            options = {"max_steps": ITERATIONS, "throw": False}
            if levenberg_marquardt:
                solver = optimistix.LevenbergMarquardt(rtol=1e-9, atol=1e-9)
                found = optimistix.least_squares(lambda p, _: self._fit.residuals(p), solver, start, **options)
            else:
                solver = optimistix.OptaxMinimiser(optax.lbfgs(), rtol=1e-9, atol=1e-9)
                found = optimistix.minimise(self._fit.loss_fn, solver, start, self._fit.everything, **options)
            return found.value, found.stats["num_steps"]

        (end, steps), seconds = _timed(solve, self._fit.init(self._keys[0]))
        return {"rates": [None], "losses": [[self.loss(end)]], "iterations": int(steps), "seconds": seconds}

    def optimum(self) -> float:
        """The lowest loss that is known: L-BFGS in float64, from the best parameters, over their typical sizes."""
        ones = jax.tree.map(lambda p: jnp.ones_like(p, dtype=float), self._best)
        size = jnp.abs(ravel_pytree(jax.jvp(self._fit.by_hand, (ones,), (ones,))[1])[0])
        flat, unravel = ravel_pytree(jax.tree.map(lambda p: jnp.asarray(p, float), self._best))
        fun = jax.jit(jax.value_and_grad(lambda x: self._fit.loss_fn(unravel(x * size), self._fit.everything)))
        options = {"maxiter": ITERATIONS, "ftol": 0.0, "gtol": 0.0, "maxcor": 50}
        solved = scipy.optimize.minimize(fun, flat / size, jac=True, method="L-BFGS-B", options=options)
        return min(float(solved.fun), self._lowest)


def _timed(fun: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """The result, and seconds without compilation."""
    compiled = jax.jit(fun).lower(*args).compile()
    start = time.perf_counter()
    return jax.block_until_ready(compiled(*args)), time.perf_counter() - start


def measure(fit: Fit, names: Sequence[str], gradients: int) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What is known of the fit, and the record of each row."""
    measurement = Measurement(fit)
    records = {name: measurement.row(ROWS[name], gradients) for name in names if getattr(fit, ROWS[name].coordinates)}
    if fit.batch_at is None:
        records["L-BFGS"] = measurement.solver(levenberg_marquardt=False)
        records["Levenberg-Marquardt"] = measurement.solver(levenberg_marquardt=True)
    return {"start": measurement.start, "optimum": measurement.optimum()}, records
