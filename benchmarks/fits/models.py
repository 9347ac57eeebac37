"""Models of several fields in their natural units, chosen before any optimizer was run on them.

A loss is a mean over observations or a negative ELBO, in float64 but for the two networks. Adam's fair opponent starts
in coordinates that a careful user makes by hand: standardized features, or parameters over their typical sizes.
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoNormal
from sklearn import datasets

Params = Any
_TABLES = json.loads((pathlib.Path(__file__).parent / "data.json").read_text())
_DATA = {name: np.array(table["values"], float) for name, table in _TABLES.items()}


class Fit(NamedTuple):
    """A model with its data."""

    title: str
    source: str
    loss_fn: Callable[[Params, Any], jax.Array]
    init: Callable[[jax.Array], Params]
    by_hand: Callable[[Params], Params]  # from the coordinates made by hand to the natural ones
    init_by_hand: Callable[[jax.Array], Params]
    everything: Any = None  # the batch of all observations
    batch_at: Callable[[jax.Array], Any] | None = None  # a random one; None: deterministic
    residuals: Callable[[Params], Any] | None = None  # half of whose squares are the loss
    not_centred: Callable[[Params], Params] | None = None  # the same from those of features as they were measured
    natural: Callable[[Params], Params] = lambda params: params


def _batches(size: int, *arrays: Any) -> dict[str, Any]:
    """Drawn with replacement."""

    def batch_at(key: jax.Array) -> Any:
        rows = jax.random.randint(key, (size,), 0, len(arrays[0]))
        return tuple(jnp.asarray(array)[rows] for array in arrays)

    return {"everything": arrays, "batch_at": batch_at}


def _start(start: Mapping[str, Any], **sizes: float) -> dict[str, Any]:
    """A fixed start; typical sizes are those of the start where none are given."""
    start = {name: jnp.asarray(value, float) for name, value in start.items()}
    sizes = {name: sizes.get(name, value) for name, value in start.items()}

    def by_hand(coordinates: Params) -> Params:
        return {name: value * sizes[name] for name, value in coordinates.items()}

    divided = {name: value / sizes[name] for name, value in start.items()}
    return {"init": lambda _: start, "by_hand": by_hand, "init_by_hand": lambda _: divided}


def _linear(size: int, x: np.ndarray, *targets: Any, intercept: Any, **others: float) -> dict[str, Any]:
    """A linear predictor of features less their means, as in rstanarm and brms, from the null model.

    By hand, the features are standardized.
    """
    mean, sd = x.mean(axis=0), x.std(axis=0)
    slopes = jnp.zeros((x.shape[1], *np.shape(intercept)))
    start = {"intercept": jnp.asarray(intercept, float), "slopes": slopes}
    start |= {name: jnp.asarray(value, float) for name, value in others.items()}

    def by_hand(p: Params) -> Params:
        return {**p, "slopes": (p["slopes"].T / sd).T}

    def not_centred(p: Params) -> Params:
        return {**p, "intercept": p["intercept"] + mean @ p["slopes"]}

    coordinates = {"by_hand": by_hand, "init_by_hand": lambda _: start, "not_centred": not_centred}
    return {"init": lambda _: start, **coordinates, **_batches(size, x - mean, *targets)}


def _claims() -> Fit:
    """Age of driver and vehicle, power, bonus-malus, inhabitants per square kilometre."""
    rng, n = np.random.default_rng(0), 50_000
    uniform = rng.uniform([18, 0, 4], [90, 20, 15], (n, 3))
    x = np.column_stack([uniform, 50 + rng.gamma(0.5, 20, n), np.exp(rng.normal(6, 1.8, n)).clip(1, 27_000)])
    exposure = rng.uniform(0.1, 1.0, n)
    counts = rng.poisson(exposure * np.exp((x - [45, 7, 6, 60, 1000]) @ [-0.006, -0.02, 0.02, 0.023, 2e-5] - 2.6))

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        x, exposure, counts = batch
        log_rate = x @ p["slopes"] + p["intercept"]
        return jnp.mean(exposure * jnp.exp(log_rate) - counts * log_rate)

    data = _linear(1000, x, exposure, counts, intercept=math.log(counts.sum() / exposure.sum()))
    source = "simulated after Noll, Salzmann, Wüthrich 2018"
    return Fit("Insurance claims, Poisson regression", source, loss_fn, **data)


def _diabetes() -> Fit:
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        x, y = batch
        shape, log_mean = jnp.exp(p["log_shape"]), x @ p["slopes"] + p["intercept"]
        density = shape * (p["log_shape"] - log_mean - y * jnp.exp(-log_mean)) - jax.lax.lgamma(shape)
        return -jnp.mean(density + (shape - 1) * jnp.log(y))

    data = _linear(64, x, y, intercept=math.log(y.mean()), log_shape=0.0)
    return Fit("Diabetes, gamma regression", "Efron et al. 2004", loss_fn, **data)


def _classifier(title: str, source: str, table: Any, size: int) -> Fit:
    """Softmax regression with the prior of rstanarm: a scale of 2.5 per standard deviation."""
    x, labels = table(return_X_y=True)
    sd, n = x.std(axis=0), len(x)

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        x, labels = batch
        logits = jnp.pad(x @ p["slopes"] + p["intercept"], ((0, 0), (1, 0)))
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        prior = jnp.sum((p["slopes"].T * sd) ** 2) + jnp.sum(p["intercept"] ** 2)
        return prior / (2 * 2.5**2 * n) - jnp.mean(chosen)

    return Fit(title, source, loss_fn, **_linear(size, x, labels, intercept=np.zeros(labels.max())))


def _peak() -> Fit:
    """Masses in MeV of 60,000 decays over 140,000 events of background: the extended likelihood."""
    rng, low, width = np.random.default_rng(0), 2900.0, 400.0
    background = low - np.log1p(rng.random(140_000) * np.expm1(-0.002 * width)) / 0.002
    masses = np.concatenate([rng.normal(3096.9, 15.0, 60_000), background])

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        off, yields = (batch[0] - p["mass"]) / p["width"], [jnp.abs(p["decays"]), jnp.abs(p["others"])]
        peak = jnp.exp(-0.5 * off**2) / jnp.sqrt(2 * jnp.pi * p["width"] ** 2)
        slope = p["slope"] * jnp.exp(-p["slope"] * (batch[0] - low)) / -jnp.expm1(-p["slope"] * width)
        return sum(yields) / len(masses) - jnp.mean(jnp.log(yields[0] * peak + yields[1] * slope))

    start = _start({"mass": 3080.0, "width": 30.0, "slope": 0.001, "decays": 1e5, "others": 1e5}, mass=30.0)
    return Fit("Peak on a background", "simulated; Barlow 1990", loss_fn, **start, **_batches(256, masses))


def _rk4(field: Callable[[Any], Any], y: Any, step: Any, steps: int) -> Any:
    def one(y: Any, _: Any) -> Any:
        k1 = field(y)
        k2 = field(y + step / 2 * k1)
        k3 = field(y + step / 2 * k2)
        return y + step / 6 * (k1 + 2 * k2 + 2 * k3 + field(y + step * k3)), None

    return jax.lax.scan(one, y, None, steps)[0]


def _theophylline() -> Fit:
    def loss_fn(p: Params, batch: Any) -> jax.Array:
        doses, times, measured = batch

        def field(amounts: jax.Array) -> jax.Array:  # mg/kg in the gut and in the body
            absorbed = p["absorption"] * amounts[0]
            return jnp.stack([-absorbed, absorbed - p["clearance"] / p["volume"] * amounts[1]])

        def interval(amounts: jax.Array, hours: jax.Array) -> Any:
            amounts = _rk4(field, amounts, hours / 12, 12)
            return amounts, amounts[1] / p["volume"]

        _, later = jax.lax.scan(interval, jnp.stack([doses, 0 * doses]), jnp.diff(times, axis=1).T)
        off = jnp.pad(later.T, ((0, 0), (1, 0))) - measured
        return jnp.mean((off / p["sigma"]) ** 2) / 2 + jnp.log(p["sigma"] ** 2) / 2

    start = _start({"absorption": 1.0, "clearance": 0.1, "volume": 1.0, "sigma": 2.0})  # 1/h, L/h/kg, L/kg, mg/L
    batches = _batches(4, *(_DATA[name] for name in ("dose", "dose_times", "concentration")))
    return Fit("Theophylline, compartments", "Boeckmann, Sheiner, Beal 1994", loss_fn, **start, **batches)


def _guide(
    title: str, source: str, model: Callable[[], None], size: Callable[[str], float], draws: int, keys: int
) -> Fit:
    """NumPyro's mean-field guide, from the medians of the prior: so many draws for a gradient, and for each key."""
    guide = AutoNormal(model, init_loc_fn=init_to_median)
    svi = SVI(model, guide, numpyro.optim.Adam(1.0), Trace_ELBO(num_particles=draws))
    start = svi.get_params(svi.init(jax.random.key(0)))
    unconstrained = svi.optim.get_params(svi.init(jax.random.key(0)).optim_state)

    def loss_fn(p: Params, keys: jax.Array) -> jax.Array:
        return jnp.mean(jax.lax.map(lambda key: svi.loss.loss(key, svi.constrain_fn(p), model, guide), keys))

    batches = {"everything": jax.random.split(jax.random.key(1), keys), "batch_at": lambda key: key[None]}
    return Fit(title, source, loss_fn, **_start(unconstrained, **{name: size(name) for name in start}), **batches)


def _schools() -> Fit:
    def model() -> None:
        mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("schools", 8):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("effects", dist.Normal(theta, _DATA["coaching_errors"]), obs=_DATA["coaching"])

    def size(name: str) -> float:
        return 1.0 if "tau" in name else 10.0

    return _guide("Eight schools, mean-field guide", "Rubin 1981", model, size, 10, keys=1000)


def _sleep() -> Fit:
    """Reaction times in ms of 300 subjects on ten days."""
    rng, days = np.random.default_rng(0), np.arange(10.0)
    levels, slopes = np.split([251.4, 10.5] + rng.normal(size=(300, 2)) * [24.7, 5.9], 2, axis=1)
    reactions = levels + slopes * days + 25.6 * rng.normal(size=(300, 10))

    def model() -> None:
        means = [numpyro.sample("mean", dist.Normal(300, 100)), numpyro.sample("mean_slope", dist.Normal(0, 20))]
        spreads = [numpyro.sample("sd", dist.HalfNormal(50)), numpyro.sample("sd_slope", dist.HalfNormal(20))]
        sigma = numpyro.sample("sd_error", dist.HalfNormal(50))
        with numpyro.plate("subjects", 300):
            level = numpyro.sample("level", dist.Normal(means[0], spreads[0]))
            slope = numpyro.sample("slope", dist.Normal(means[1], spreads[1]))
        line = level[:, None] + slope[:, None] * days
        numpyro.sample("reactions", dist.Normal(line, sigma).to_event(2), obs=reactions)

    def size(name: str) -> float:
        return 1.0 if name.startswith("sd") else 10.0 if "slope" in name else 100.0

    title = "300 subjects without sleep, mean-field guide"
    return _guide(title, "simulated after Bates et al. 2015", model, size, 1, keys=320)


def _layers(key: jax.Array, *widths: int, gain: float = 1.0) -> list[Any]:
    keys = jax.random.split(key, len(widths))
    kernels = [gain * jax.random.normal(k, (n, m)) / n**0.5 for k, n, m in zip(keys, widths, widths[1:], strict=False)]
    return [{"kernel": jnp.float32(kernel), "bias": jnp.zeros(kernel.shape[1], jnp.float32)} for kernel in kernels]


def _dense(layers: Any, x: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    for layer in layers[:-1]:
        x = activation(x @ layer["kernel"] + layer["bias"])
    return (x @ layers[-1]["kernel"] + layers[-1]["bias"])[:, 0]


def _circuit() -> Fit:
    """The impedance in ohms of a circuit, from resistance, frequency, inductance and capacitance."""
    x, y = map(np.float32, datasets.make_friedman2(10_000, noise=125.0, random_state=0))

    def init(key: jax.Array) -> Params:
        return _layers(key, 4, 32, 1, gain=2**0.5)

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        return jnp.mean((_dense(p, batch[0], jax.nn.relu) - batch[1]) ** 2)

    def by_hand(p: Params) -> Params:
        kernel = p[0]["kernel"] / x.std(axis=0)[:, None]
        hidden = {"kernel": kernel, "bias": p[0]["bias"] - x.mean(axis=0) @ kernel}
        return [hidden, {"kernel": p[1]["kernel"] * y.std(), "bias": p[1]["bias"] * y.std() + y.mean()}]

    batches = _batches(64, x, y)
    return Fit("Circuit, network on raw inputs", "Friedman 1991", loss_fn, init, by_hand, init, **batches)


def _burgers() -> Fit:
    """Two coefficients of an equation and the network that solves it, from 2,000 values of the solution."""
    rng, viscosity = np.random.default_rng(0), 0.01 / np.pi
    x, t = rng.uniform(-1, 1, 2000), rng.uniform(0.01, 1, 2000)
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = x[:, None] - np.sqrt(4 * viscosity * t[:, None]) * nodes
    weights = weights * np.exp(-np.cos(np.pi * y) / (2 * np.pi * viscosity))  # Cole and Hopf
    u = -np.sum(np.sin(np.pi * y) * weights, axis=1) / np.sum(weights, axis=1)

    def init(key: jax.Array) -> Params:
        return {"layers": _layers(key, 2, 20, 20, 20, 1), "advection": jnp.float32(0), "viscosity": jnp.float32(0)}

    def loss_fn(p: Params, batch: Any) -> jax.Array:
        x, t, u = batch

        def network(x: jax.Array, t: jax.Array) -> jax.Array:
            return _dense(p["layers"], jnp.stack([x, t], axis=1), jnp.tanh)

        def along_x(x: jax.Array) -> Any:
            return jax.jvp(lambda x: network(x, t), (x,), (jnp.ones_like(x),))

        (value, u_x), (_, u_xx) = jax.jvp(along_x, (x,), (jnp.ones_like(x),))
        u_t = jax.jvp(lambda t: network(x, t), (t,), (jnp.ones_like(t),))[1]
        residual = u_t + p["advection"] * value * u_x - p["viscosity"] * u_xx
        return jnp.mean((value - u) ** 2 + residual**2)

    def by_hand(p: Params) -> Params:
        return {**p, "viscosity": p["viscosity"] * 0.01}

    title, batches = "Burgers' equation, coefficients and network", _batches(64, *map(np.float32, (x, t, u)))
    return Fit(title, "Raissi, Perdikaris, Karniadakis 2019", loss_fn, init, by_hand, init, **batches)


def _curve(title: str, source: str, residuals: Callable[[Params], Any], **start: float) -> Fit:
    """Least squares on all of the data."""
    return Fit(title, source, lambda p, _: jnp.sum(residuals(p) ** 2) / 2, **_start(start), residuals=residuals)


def _enzyme() -> Fit:
    def residuals(p: Params) -> jax.Array:
        return p["maximum"] * _DATA["substrate"] / (p["half"] + _DATA["substrate"]) - _DATA["velocity"]

    return _curve("Puromycin, Michaelis and Menten", "Bates, Watts 1988", residuals, maximum=100.0, half=0.5)


def _exponentials() -> Fit:
    def residuals(p: Params) -> jax.Array:
        first, second = (jnp.exp(-p[rate] * 10.0 * np.arange(33)) for rate in ("b4", "b5"))
        return p["b1"] + p["b2"] * first + p["b3"] * second - _DATA["osborne"]

    start = {"b1": 0.5, "b2": 1.5, "b3": -1.0, "b4": 0.01, "b5": 0.02}
    return _curve("Two exponentials, NIST's MGH17", "Osborne 1972", residuals, **start)


def _pelts() -> Fit:
    """Logarithms of the counts with an error of a quarter, and the priors of the case study."""
    prior = {"a": (1.0, 0.5), "b": (0.05, 0.05), "c": (1.0, 0.5), "d": (0.05, 0.05)}

    def residuals(p: Params) -> jax.Array:
        def field(y: jax.Array) -> jax.Array:
            return jnp.stack([(p["a"] - p["b"] * y[1]) * y[0], (p["d"] * y[0] - p["c"]) * y[1]])

        def year(y: jax.Array, _: Any) -> Any:
            return _rk4(field, y, 0.1, 10), y

        counts = jax.lax.scan(year, jnp.stack([p["hares"], p["lynxes"]]), None, 21)[1]
        off = (jnp.log(counts) - np.log(np.stack([_DATA["hares"], _DATA["lynxes"]], axis=1))) / 0.25
        priors = [(p[name] - mean) / sd for name, (mean, sd) in prior.items()]
        return jnp.concatenate([jnp.ravel(off), jnp.stack(priors), jnp.log(counts[0]) - math.log(10)])

    start = {"a": 1.0, "b": 0.05, "c": 1.0, "d": 0.05, "hares": 30.0, "lynxes": 4.0}
    return _curve("Lynxes and hares, Lotka and Volterra", "Carpenter 2018", residuals, **start)


_CANCER = "Breast cancer, logistic regression", "Street, Wolberg, Mangasarian 1993", datasets.load_breast_cancer, 64
_WINE = "Wine, softmax regression", "Forina et al. 1991", datasets.load_wine, 32
FITS: dict[str, Callable[[], Fit]] = {
    "claims": _claims,
    "diabetes": _diabetes,
    "cancer": lambda: _classifier(*_CANCER),
    "wine": lambda: _classifier(*_WINE),
    "peak": _peak,
    "theophylline": _theophylline,
    "schools": _schools,
    "sleep": _sleep,
    "circuit": _circuit,
    "burgers": _burgers,
    "enzyme": _enzyme,
    "exponentials": _exponentials,
    "pelts": _pelts,
}
load = functools.cache(lambda name: FITS[name]())  # a fit by its name
