"""Hutchinson's estimate against the truth: the identity it rests on, its error, and what its square converges to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optax_adahessian import rademacher_like, value_grad_and_hessian_diag


class EstimateReport(NamedTuple):
    """The estimate and the truth, for d parameters and m numbers of probes."""

    exact: jax.Array  # shape=(d,): the diagonal
    estimate: jax.Array  # shape=(d,): the mean of `counts[-1]` probes
    root_mean_square: jax.Array  # shape=(d,): of the estimates of one probe
    row_norm: jax.Array  # shape=(d,): of the rows of the exact Hessian, to which `root_mean_square` tends
    hz: jax.Array  # shape=(d,): the exact Hessian times one probe z
    gradient_of_product: jax.Array  # shape=(d,): the gradient of <gradient, z>, equal to `hz`
    counts: jax.Array  # shape=(m,): numbers of probes: 1, 4, 16, ... `max_probes`
    measured_error: jax.Array  # shape=(m,): root mean square over the entries, and over the disjoint groups of samples
    predicted_error: jax.Array  # shape=(m,)


@functools.partial(jax.jit, static_argnames=("fun", "max_probes", "repetitions"))
def estimate_report(
    fun: Callable[[Any], jax.Array], params: Any, key: jax.Array, max_probes: int = 256, repetitions: int = 200
) -> EstimateReport:
    r"""Everything that `optax-adahessian estimate` shows, from ``max_probes * repetitions`` estimates z * Hz.

    For n probes and d parameters theory says

    .. math::

        \mathrm{E}[h_i^2] = H_{ii}^2 + \frac{1}{n} \sum_{j \neq i} H_{ij}^2, \qquad
        \text{error} = \sqrt{\frac{1}{n} \cdot \frac{1}{d} \sum_{i=1}^{d} \sum_{j \neq i} H_{ij}^2},

    so that with one probe the root mean square of an entry is the norm of the Hessian's row. The Hessian is computed as
    a whole: for at most some thousand parameters.
    """
    probe_key, sample_key = jax.random.split(key)
    flat, unravel = ravel_pytree(params)
    hessian = jax.hessian(lambda p: fun(unravel(p)))(flat)
    exact = jnp.diag(hessian)
    z = rademacher_like(probe_key, params)
    gradient_of_product = jax.grad(lambda p: jnp.vdot(_flat(jax.grad(fun)(p)), _flat(z)))(params)
    estimate = value_grad_and_hessian_diag(fun)
    # One repetition at a time, which bounds the memory of a network's intermediate values.
    keys = jax.random.split(sample_key, (repetitions, max_probes))
    samples = jax.lax.map(jax.vmap(lambda key: _flat(estimate(key, params)[2])), keys).reshape(-1, exact.size)

    def error(count: int) -> jax.Array:
        means = samples[: len(samples) // count * count].reshape(-1, count, exact.size).mean(axis=1)
        return jnp.sqrt(jnp.mean((means - exact[None]) ** 2))

    counts = (*(4**i for i in range(max_probes.bit_length()) if 4**i < max_probes), max_probes)
    return EstimateReport(
        exact=exact,
        estimate=samples[:max_probes].mean(axis=0),
        root_mean_square=jnp.sqrt(jnp.mean(samples**2, axis=0)),
        row_norm=jnp.linalg.norm(hessian, axis=1),
        hz=hessian @ _flat(z),
        gradient_of_product=_flat(gradient_of_product),
        counts=jnp.asarray(counts),
        measured_error=jnp.stack([error(count) for count in counts]),
        predicted_error=jnp.linalg.norm(hessian - jnp.diag(exact)) / jnp.sqrt(exact.size * jnp.asarray(counts)),
    )


def _flat(tree: Any) -> jax.Array:
    return ravel_pytree(tree)[0]


def small_network() -> tuple[Callable[[Any], jax.Array], dict[str, jax.Array]]:
    """The loss of a network with 3 inputs, 4 tanh units and one output on 32 fixed examples, and its 21 parameters.

    The loss is the mean squared error against sin(x_1) + x_2 x_3; the parameters are drawn, not trained.
    """
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(size=(3, 4)) / np.sqrt(3),
        "b1": np.zeros(4),
        "w2": generator.normal(size=4) / 2,
        "b2": np.zeros(()),
    }
    return _network_loss, jax.tree.map(jnp.asarray, weights)


def _network_loss(params: Any) -> jax.Array:
    inputs = np.random.default_rng(1).normal(size=(32, 3))
    targets = np.sin(inputs[:, 0]) + inputs[:, 1] * inputs[:, 2]
    x, y = (jnp.asarray(data, params["w1"].dtype) for data in (inputs, targets))
    hidden = jnp.tanh(x @ params["w1"] + params["b1"][None])
    return jnp.mean((hidden @ params["w2"] + params["b2"] - y) ** 2)
