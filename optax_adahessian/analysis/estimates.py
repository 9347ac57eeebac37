"""Hutchinson's estimate against the truth: the identity it rests on, its error, and what its square converges to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from optax_adahessian import value_grad_and_hessian_diag
from optax_adahessian._checks import check_callable, check_like, check_real_leaves, check_static_integer
from optax_adahessian._losses import checked_loss
from optax_adahessian._probes import check_key

_BATCH = 16_384  # samples at a time: bounds the memory of a network's intermediate values


def dense_hessian(fun: Callable[[Any], jax.Array], params: Any) -> jax.Array:
    """The whole Hessian of `fun`, of shape (n, n), over the n parameters laid end to end."""
    loss = _loss_of(fun, params)
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda p: loss(unravel(p)))(flat)


def double_backward_product(fun: Callable[[Any], jax.Array], params: Any, vector: Any) -> Any:
    r"""The product H z as the gradient of a number, :math:`\nabla \langle \nabla f, z \rangle = H z`.

    The second differentiation treats z as a constant, so that H is never formed. This is how it is written in
    frameworks with reverse mode alone; `optax_adahessian.hessian_vector_product` gets the same from one `jax.jvp`.
    """

    loss = _loss_of(fun, params)
    check_like("vector", vector, params)

    def inner_product(p: Any) -> jax.Array:
        terms = jax.tree.map(jnp.vdot, jax.grad(loss)(p), vector)
        return sum(jax.tree.leaves(terms), start=jnp.zeros([]))

    return jax.grad(inner_product)(params)


def hutchinson_samples(fun: Callable[[Any], jax.Array], params: Any, key: jax.Array, num_samples: int) -> jax.Array:
    """Independent one-probe estimates z * Hz, of shape (num_samples, n); made by the package's own estimator."""
    estimate = value_grad_and_hessian_diag(fun)
    check_key("key", key)
    check_static_integer("num_samples", num_samples, minimum=1)
    batch = min(num_samples, _BATCH)
    keys = jax.random.split(key, (-(-num_samples // batch), batch))

    def sample(key: jax.Array) -> jax.Array:
        return ravel_pytree(estimate(key, params)[2])[0]

    samples = jax.jit(lambda keys: jax.lax.map(jax.vmap(sample), keys))(keys)
    return samples.reshape(keys.size, -1)[:num_samples]


def error_against_probes(samples: jax.Array, diag: jax.Array, counts: Sequence[int]) -> jax.Array:
    """The root mean square error of the mean of `count` samples, for each count, of shape (len(counts),).

    The mean is over the entries of the diagonal and over as many disjoint groups of `count` samples as there are.
    """
    if jnp.ndim(samples) != 2 or jnp.shape(diag) != jnp.shape(samples)[1:]:
        raise ValueError(
            f"`samples` (of shape {jnp.shape(samples)}) must be of shape (samples, n), and `diag` (of shape "
            f"{jnp.shape(diag)}) of shape (n,). Pass what `hutchinson_samples` returns and the diagonal for it."
        )
    _check_counts(counts)
    if max(counts) > len(samples):
        raise ValueError(f"`counts` (={tuple(counts)}) must be at most the number of `samples` (={len(samples)}).")

    def error(count: int) -> jax.Array:
        groups = len(samples) // count
        means = samples[: groups * count].reshape(groups, count, -1).mean(axis=1)
        return jnp.sqrt(jnp.mean((means - diag[None]) ** 2))

    return jnp.stack([error(count) for count in counts])


def predicted_error(hessian: jax.Array, counts: Sequence[int]) -> jax.Array:
    r"""What theory says of `error_against_probes`.

    .. math:: \sqrt{\frac{1}{n} \cdot \frac{1}{d} \sum_{i=1}^{d} \sum_{j \neq i} H_{ij}^2}

    for n probes and d parameters.
    """
    _check_square(hessian)
    _check_counts(counts)
    off_diagonal = hessian - jnp.diag(jnp.diag(hessian))
    return jnp.sqrt(jnp.sum(off_diagonal**2) / len(hessian) / jnp.asarray(counts))


def row_norms(hessian: jax.Array, num_probes: int = 1) -> jax.Array:
    r"""The root of the expected square of the estimate, entry by entry, which AdaHessian's denominator tends to.

    .. math:: \sqrt{\mathrm{E}[h_i^2]} = \sqrt{H_{ii}^2 + \frac{1}{n} \sum_{j \neq i} H_{ij}^2}

    With one probe it is the norm of the Hessian's row.
    """
    _check_square(hessian)
    check_static_integer("num_probes", num_probes, minimum=1)
    diag = jnp.diag(hessian)
    return jnp.sqrt(diag**2 + (jnp.sum(hessian**2, axis=1) - diag**2) / num_probes)


def _loss_of(fun: Callable[[Any], jax.Array], params: Any) -> Callable[[Any], jax.Array]:
    """`fun`, checked, without the auxiliary output that a checked loss has."""
    check_callable("fun", fun, "lambda p: jnp.sum(p**2)")
    check_real_leaves("params", params)
    loss = checked_loss("fun", fun)
    return lambda p: loss(p)[0]


def _check_counts(counts: Any) -> None:
    if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
        raise TypeError(f"`counts` (={counts!r}) must be numbers of probes, Python integers. Pass e.g. (1, 4, 16).")
    for count in counts:
        check_static_integer("counts", count, minimum=1)


def _check_square(hessian: Any) -> None:
    shape = jnp.shape(hessian)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"`hessian` (of shape {shape}) must be a square matrix. Pass e.g. `dense_hessian(fun, params)`."
        )
