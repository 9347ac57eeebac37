"""Models of several fields in their natural units, chosen before any optimizer was run on them.

A loss is a mean over observations, a negative ELBO or half a sum of squares, in float64 but for the two networks. Our
fair opponent is Adam in coordinates that a careful user makes by hand. The docstring of a fit is its row in the table.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy import stats
from numpyro import infer
from sklearn import datasets

from benchmarks.models import apply_layers, init_layers, random_rows
from examples import sleep_study

Params = Any
_TABLES = json.loads(Path(__file__).with_name("data.json").read_text())
_DATA = {name: np.array(table["values"], float) for name, table in _TABLES.items()}


class Fit(NamedTuple):
    """A model with its data."""

    loss_fn: Callable[[Params, Any], jax.Array]
    init: Callable[[np.random.Generator], Params]  # the start, in all coordinates
    to_natural: dict[str, Callable[[Params], Params]]  # from "by hand", and from "not centred" for regressions
    everything: Any = None  # the batch of all observations, or of a guide the keys for its loss
    batch_at: Callable[[jax.Array, Any], Any] | None = None  # a random one, of a key and everything
    residuals: Callable[[Params], jax.Array] | None = None  # of what has no batches: half of their squares is the loss


def _start(start: dict[str, Any], **sizes: Any) -> tuple[Any, Any]:
    """The same for all seeds. By hand, a step of 1 is a typical size: that of the start, or as given."""
    start = {name: jnp.asarray(value, float) for name, value in start.items()}
    by_hand = {"by hand": lambda p: {name: x + (p[name] - x) * sizes.get(name, x) for name, x in start.items()}}
    return lambda _: start, by_hand


def _regression(size: int, log_density: Callable[..., jax.Array], x: Any, *targets: Any, **start: Any) -> Fit:
    """From the null model, with features less their means and the prior of slopes and intercept as in rstanarm."""
    mean, sd, precision = x.mean(axis=0), x.std(axis=0), 1 / (2.5**2 * len(x))
    start = {name: jnp.asarray(value, float) for name, value in start.items()}
    start["slopes"] = jnp.zeros((x.shape[1], *start["intercept"].shape))

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        prior = precision / 2 * (jnp.sum((p["slopes"].T * sd) ** 2) + jnp.sum(p["intercept"] ** 2))
        return prior - jnp.mean(log_density(p, batch[0] @ p["slopes"] + p["intercept"], *batch[1:]))

    to_natural = {
        "by hand": lambda p: p | {"slopes": (p["slopes"].T / sd).T},
        "not centred": lambda p: p | {"intercept": p["intercept"] + mean @ p["slopes"]},
    }
    return Fit(loss_fn, lambda _: start, to_natural, (x - mean, *targets), random_rows(size))


def claims() -> Fit:
    """Insurance claims, Poisson regression (simulated after Noll, Salzmann, Wüthrich 2018)"""
    rng, n = np.random.default_rng(0), 50_000
    uniform = rng.uniform([18, 0, 4], [90, 20, 15], (n, 3))  # ages, power; then bonus-malus, inhabitants per km²
    x = np.column_stack([uniform, 50 + rng.gamma(0.5, 20, n), np.exp(rng.normal(6, 1.8, n)).clip(1, 27_000)])
    exposure = rng.uniform(0.1, 1.0, n)
    counts = rng.poisson(exposure * np.exp((x - [45, 7, 6, 60, 1000]) @ [-0.006, -0.02, 0.02, 0.023, 2e-5] - 2.6))
    null = np.log(counts.sum() / exposure.sum())
    return _regression(1000, lambda _, eta, t, y: y * eta - t * jnp.exp(eta), x, exposure, counts, intercept=null)


def diabetes() -> Fit:
    """Diabetes, gamma regression (Efron et al. 2004)"""
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)

    def log_density(p: Params, log_mean: jax.Array, y: jax.Array) -> jax.Array:
        return dist.Gamma(jnp.exp(p["log_shape"]), jnp.exp(p["log_shape"] - log_mean)).log_prob(y)

    return _regression(64, log_density, x, y, intercept=np.log(y.mean()), log_shape=0.0)


def _log_categorical(_: Params, logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dist.Categorical(logits=jnp.pad(logits, ((0, 0), (1, 0)))).log_prob(labels)


def cancer() -> Fit:
    """Breast cancer, logistic regression (Street, Wolberg, Mangasarian 1993)"""
    return _regression(64, _log_categorical, *datasets.load_breast_cancer(return_X_y=True), intercept=[0.0])


def wine() -> Fit:
    """Wine, softmax regression (Forina et al. 1991)"""
    return _regression(32, _log_categorical, *datasets.load_wine(return_X_y=True), intercept=[0.0, 0.0])


def peak() -> Fit:
    """Peak on a background (simulated; Barlow 1990)"""
    rng, decays, others = np.random.default_rng(0), 60_000, 140_000
    background = 2900 - np.log1p(rng.random(others) * np.expm1(-0.002 * 400)) / 0.002
    masses = np.concatenate([rng.normal(3096.9, 15.0, decays), background])  # MeV

    def loss_fn(p: Params, batch: Any) -> jax.Array:  # the extended likelihood
        decays, others = jnp.abs(p["decays"]), jnp.abs(p["others"])
        slope = p["slope"] * jnp.exp(-p["slope"] * (batch[0] - 2900)) / -jnp.expm1(-p["slope"] * 400)
        density = decays * stats.norm.pdf(batch[0], p["mass"], p["width"]) + others * slope
        return (decays + others) / len(masses) - jnp.mean(jnp.log(density))

    start = {"mass": 3080.0, "width": 30.0, "slope": 0.001, "decays": 1e5, "others": 1e5}
    return Fit(loss_fn, *_start(start, mass=30.0), (masses,), random_rows(256))


def theophylline() -> Fit:
    """Theophylline, one compartment (Boeckmann, Sheiner, Beal 1994)"""

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        doses, times, measured = batch
        absorption, elimination = p["absorption"], p["clearance"] / p["volume"]
        remains = jnp.exp(-elimination * times) - jnp.exp(-absorption * times)
        in_body = doses[:, None] * absorption / (absorption - elimination) * remains
        return -jnp.mean(stats.norm.logpdf(measured, in_body / p["volume"], p["sigma"]))

    start = _start({"absorption": 1.0, "clearance": 0.1, "volume": 1.0, "sigma": 2.0})  # 1/h, L/h/kg, L/kg, mg/L
    return Fit(loss_fn, *start, (_DATA["dose"], _DATA["dose_times"], _DATA["concentration"]), random_rows(4))


def _guide(model: Callable[[], None], draws: int, of_loss: int, **sizes: Any) -> Fit:
    """NumPyro's mean-field guide, from the medians of the prior. A gradient has one key, the loss `of_loss`."""
    guide = infer.autoguide.AutoNormal(model, init_loc_fn=infer.init_to_median)
    svi = infer.SVI(model, guide, numpyro.optim.Adam(1.0), infer.Trace_ELBO(num_particles=draws))
    start = svi.optim.get_params(svi.init(jax.random.key(0)).optim_state)  # without constraints

    def loss_fn(p: Params, keys: jax.Array) -> jax.Array:
        return jnp.mean(jax.lax.map(lambda key: svi.loss.loss(key, svi.constrain_fn(p), model, guide), keys))

    sizes = {name: sizes[name.split("_auto_")[0]] for name in start}
    return Fit(loss_fn, *_start(start, **sizes), jax.random.split(jax.random.key(1), of_loss), lambda key, _: key[None])


def schools() -> Fit:
    """Eight schools, mean-field guide, ten draws (Rubin 1981)"""

    def model() -> None:
        mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("schools", 8):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("effects", dist.Normal(theta, _DATA["coaching_errors"]), obs=_DATA["coaching"])

    return _guide(model, draws=10, of_loss=1000, mu=10.0, tau=1.0, theta=10.0)


def sleep() -> Fit:
    """300 subjects without sleep, mean-field guide, one draw (simulated after Bates et al. 2015)"""
    reactions = sleep_study.simulate(people=300)
    sizes = {"mean": 100.0, "level": 100.0, "mean_slope": 10.0, "slope": 10.0, "sd": 1.0, "sd_slope": 1.0, "error": 1.0}
    return _guide(lambda: sleep_study.model(reactions), draws=1, of_loss=320, **sizes)


def circuit() -> Fit:
    """Circuit, network on raw inputs (Friedman 1991)"""
    x, y = map(np.float32, datasets.make_friedman2(10_000, noise=125.0, random_state=0))

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        return jnp.mean((apply_layers(p, batch[0], jax.nn.relu)[:, 0] - batch[1]) ** 2)

    def scaled(p: Params) -> Params:
        kernel = p[0]["kernel"] / x.std(axis=0)[:, None]
        hidden = {"kernel": kernel, "bias": p[0]["bias"] - x.mean(axis=0) @ kernel}
        return [hidden, {"kernel": p[1]["kernel"] * y.std(), "bias": p[1]["bias"] * y.std() + y.mean()}]

    return Fit(loss_fn, lambda r: init_layers(r, (4, 32, 1), gain=2**0.5), {"by hand": scaled}, (x, y), random_rows(64))


def burgers() -> Fit:
    """Burgers' equation, coefficients and network (Raissi, Perdikaris, Karniadakis 2019)"""
    rng, viscosity = np.random.default_rng(0), 0.01 / np.pi
    x, t = rng.uniform(-1, 1, 2000), rng.uniform(0.01, 1, 2000)
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = x[:, None] - np.sqrt(4 * viscosity * t[:, None]) * nodes
    weights = weights * np.exp(-np.cos(np.pi * y) / (2 * np.pi * viscosity))  # Cole and Hopf
    values = -np.sum(np.sin(np.pi * y) * weights, axis=1) / np.sum(weights, axis=1)

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        points, values = batch

        def u(points: jax.Array) -> jax.Array:
            return apply_layers(p["layers"], points)[:, 0]

        along_x, along_t = (jnp.zeros_like(points).at[:, i].set(1) for i in (0, 1))
        (value, u_x), (_, u_xx) = jax.jvp(lambda at: jax.jvp(u, (at,), (along_x,)), (points,), (along_x,))
        residual = jax.jvp(u, (points,), (along_t,))[1] + p["advection"] * value * u_x - p["viscosity"] * u_xx
        return jnp.mean((value - values) ** 2 + residual**2)

    def init(rng: np.random.Generator) -> Params:
        return {"layers": init_layers(rng, (2, 20, 20, 20, 1)), "advection": np.float32(0), "viscosity": np.float32(0)}

    by_hand = {"by hand": lambda p: p | {"viscosity": p["viscosity"] * 0.01}}
    return Fit(loss_fn, init, by_hand, (np.float32(np.column_stack([x, t])), np.float32(values)), random_rows(64))


def _curve(residuals: Callable[[Params], Any], **start: float) -> Fit:
    return Fit(lambda p, _: jnp.sum(residuals(p) ** 2) / 2, *_start(start), residuals=residuals)


def enzyme() -> Fit:
    """Puromycin, Michaelis and Menten (Bates, Watts 1988)"""
    s, v = _DATA["substrate"], _DATA["velocity"]
    return _curve(lambda p: p["maximum"] * s / (p["half"] + s) - v, maximum=100.0, half=0.5)


def exponentials() -> Fit:
    """Two exponentials, NIST's MGH17 (Osborne 1972)"""
    t, y, start = 10.0 * np.arange(33), _DATA["osborne"], {"a": 0.5, "b": 1.5, "c": -1.0, "d": 0.01, "e": 0.02}
    return _curve(lambda p: p["a"] + p["b"] * jnp.exp(-p["d"] * t) + p["c"] * jnp.exp(-p["e"] * t) - y, **start)


_ALL = claims, diabetes, cancer, wine, peak, theophylline, schools, sleep, circuit, burgers, enzyme, exponentials
FITS: dict[str, Callable[[], Fit]] = {fit.__name__: fit for fit in _ALL}
