"""Variational inference with NumPyro, for parameters in milliseconds and one learning rate for all of them.

    python -m examples.sleep_study --rates 0.5 1 2 --steps 2000

Reaction times of 300 people on ten days without sleep, simulated with the estimates of the sleep study in R's lme4. The
guide has 1,210 parameters: the means are hundreds of milliseconds, the slopes a few per day. Adam moves all of them by
its learning rate. AdaHessian with equilibrated probes finds the scale of each; its rate is a fraction of Newton's step.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoNormal
from tqdm import tqdm

import optax_adahessian as oah
from examples import positive_int

DAYS = np.arange(10.0)


def simulate(people):
    """Reaction times in milliseconds, of each person on each day."""
    rng = np.random.default_rng(0)
    level, slope = (np.array([251.4, 10.5]) + rng.normal(size=(people, 2)) * [24.7, 5.9]).T
    return level[:, None] + slope[:, None] * DAYS + 25.6 * rng.normal(size=(people, len(DAYS)))


def model(reactions):
    """Each person has a level and a slope of their own."""
    mean, mean_slope = numpyro.sample("mean", dist.Normal(300, 100)), numpyro.sample("mean_slope", dist.Normal(0, 20))
    sd, sd_slope = numpyro.sample("sd", dist.HalfNormal(50)), numpyro.sample("sd_slope", dist.HalfNormal(20))
    error = numpyro.sample("error", dist.HalfNormal(50))
    with numpyro.plate("people", len(reactions)):
        level = numpyro.sample("level", dist.Normal(mean, sd))
        slope = numpyro.sample("slope", dist.Normal(mean_slope, sd_slope))
    numpyro.sample("reactions", dist.Normal(level[:, None] + slope[:, None] * DAYS, error).to_event(2), obs=reactions)


class Optimizer(numpyro.optim._NumPyroOptim):
    """Gives an optimizer of Optax the loss, from which AdaHessian estimates the curvature."""

    def __init__(self, tx):
        self.tx = tx

    def init(self, params):
        return params, self.tx.init(params)

    def get_params(self, state):
        return state[0]

    def eval_and_update(self, fn, state, **kwargs):
        params, opt_state = state
        (loss, aux), grads = jax.value_and_grad(fn, has_aux=True)(params)
        updates, opt_state = self.tx.update(grads, opt_state, params, obj_fn=lambda p: fn(p)[0])
        return (loss, aux), (optax.apply_updates(params, updates), opt_state)


def fit(tx, steps, reactions):
    """The loss over the last twentieth of the steps, and the medians of the guide."""
    guide = AutoNormal(model, init_loc_fn=init_to_median)
    svi = SVI(model, guide, Optimizer(optax.with_extra_args_support(tx)), Trace_ELBO(num_particles=10))
    result = svi.run(jax.random.key(0), steps, reactions, progress_bar=False)
    return float(jnp.mean(result.losses[-max(steps // 20, 1) :])), guide.median(result.params)


def scheduled(rate, steps):
    """It rises over a twentieth of the steps, stays to a quarter, and falls to a thousandth."""
    return optax.warmup_exponential_decay_schedule(0.0, rate, steps // 20, 3 * steps // 4, 1e-3, steps // 5)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive_int, default=2000, help="steps of AdaHessian; Adam takes three times as many")
    add("--people", type=positive_int, default=300, help="of whom reaction times are simulated (%(default)s)")
    add("--rates", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="of AdaHessian (%(default)s)")
    add("--adam", type=float, nargs="*", default=[0.01, 0.1, 1.0], help="learning rates of Adam (%(default)s)")
    args = parser.parse_args(argv)
    reactions, runs = simulate(args.people), []
    for rate in args.rates:
        tx = oah.adahessian(scheduled(rate, args.steps), b2=0.95, eps=0.0, equilibrate=True)
        runs.append((f"AdaHessian, {rate:g}", tx, args.steps))
    for rate in args.adam:  # an estimate costs two gradients
        runs.append((f"Adam, {rate:g}", optax.adam(scheduled(rate, 3 * args.steps)), 3 * args.steps))
    for name, tx, steps in (bar := tqdm(runs)):
        loss, medians = fit(tx, steps, reactions)
        found = ", ".join(f"{key} {x:.1f}" for key, x in medians.items() if x.ndim == 0)
        bar.write(f"{name:16} loss {loss:10,.1f}   {found}")


if __name__ == "__main__":
    main()
