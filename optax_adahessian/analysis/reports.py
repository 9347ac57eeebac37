"""All that can be said about Hutchinson's estimate at one point, as arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optax_adahessian import rademacher_like
from optax_adahessian._checks import check_callable, check_real_leaves, check_static_integer
from optax_adahessian._probes import check_key
from optax_adahessian.analysis import estimates


class EstimateReport(NamedTuple):
    """The estimate and the truth, for d parameters and m numbers of probes; numpy arrays."""

    exact: Any  # shape=(d,): the diagonal
    estimate: Any  # shape=(d,): the mean of `counts[-1]` probes
    root_mean_square: Any  # shape=(d,): of the estimates of one probe
    row_norm: Any  # shape=(d,): of the rows of the exact Hessian, which `root_mean_square` tends to
    hz: Any  # shape=(d,): the exact Hessian times one probe z
    gradient_of_product: Any  # shape=(d,): the gradient of <gradient, z>, equal to `hz`
    counts: Any  # shape=(m,): numbers of probes
    measured_error: Any  # shape=(m,)
    predicted_error: Any  # shape=(m,)


def estimate_report(
    fun: Callable[[Any], jax.Array], params: Any, key: jax.Array, max_probes: int = 256, repetitions: int = 200
) -> EstimateReport:
    """Everything that `optax-adahessian estimate` shows, computed."""
    check_callable("fun", fun, "lambda p: jnp.sum(p**2)")
    check_real_leaves("params", params)
    check_key("key", key)
    check_static_integer("max_probes", max_probes, minimum=1)
    check_static_integer("repetitions", repetitions, minimum=1)
    max_probes, repetitions = int(max_probes), int(repetitions)
    counts = (*(4**i for i in range(max_probes.bit_length()) if 4**i < max_probes), max_probes)
    return EstimateReport(*map(np.asarray, _report(fun, params, key, counts, repetitions)))


@functools.partial(jax.jit, static_argnames=("fun", "counts", "repetitions"))
def _report(
    fun: Callable[[Any], jax.Array], params: Any, key: jax.Array, counts: tuple[int, ...], repetitions: int
) -> EstimateReport:
    probe_key, sample_key = jax.random.split(key)
    hessian = estimates.dense_hessian(fun, params)
    exact = jnp.diag(hessian)
    probe = rademacher_like(probe_key, params)
    samples = estimates.hutchinson_samples(fun, params, sample_key, counts[-1] * repetitions)
    return EstimateReport(
        exact=exact,
        estimate=samples[: counts[-1]].mean(axis=0),
        root_mean_square=jnp.sqrt(jnp.mean(samples**2, axis=0)),
        row_norm=estimates.row_norms(hessian),
        hz=hessian @ ravel_pytree(probe)[0],
        gradient_of_product=ravel_pytree(estimates.double_backward_product(fun, params, probe))[0],
        counts=counts,
        measured_error=estimates.error_against_probes(samples, exact, counts),
        predicted_error=estimates.predicted_error(hessian, counts),
    )
