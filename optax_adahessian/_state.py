"""What the optimizer remembers: its state, what the second moment says where nothing is known, and scales of probes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._errors import check_like
from optax_adahessian._spatial_average import SpatialAverage, block_expand

_REMEDY = "Continue a state with the transformation that wrote it, or start with `tx.init(params)`."
_RESTORED = "A checkpoint keeps the types only if it is restored into the state of `tx.init(params)`."

UNKNOWN = 0  # the second moment of a block that had no finite estimate so far


def flat(dtype: Any) -> Any:
    """The least second moment, of a block whose curvature is zero: the smallest normal number, since 0 is `UNKNOWN`."""
    return jnp.finfo(dtype).tiny


class ScaleByAdaHessianState(NamedTuple):
    """State of `scale_by_adahessian`: arrays only."""

    count: jax.Array  # type: ignore[assignment] # shape=(), dtype=int32: steps taken
    last_estimate: jax.Array  # shape=(), dtype=int32: `count` after the step of the last estimate, else 0
    mu: optax.Updates | None  # shapes of the parameters, dtype=`mu_dtype` or theirs; None with b1=0
    nu: optax.Updates  # mean of d^2, one entry per block, dtype=float32 (float64 for float64 leaves); `UNKNOWN`, `flat`
    estimator: optax.OptState  # of `hessian_diagonal_fn`


def probe_scale(state: optax.OptState, params: optax.Params) -> Any:
    r"""The scales :math:`s = \hat\nu^{-1/4}` for probes in the parameters' own units, from an optimizer's state.

    ``estimate(key, params, batch, probe_scale=probe_scale(state, params))`` draws the probe :math:`s \odot z`, z signs:

    .. math::

        h_i = \frac{z_i (H (s \odot z))_i}{s_i}, \qquad \mathrm{E}[h_i] = H_{ii}, \qquad
        \mathrm{E}[h_i^2] = H_{ii}^2 + \sum_{j \neq i} H_{ij}^2 \frac{s_j^2}{s_i^2}

    The average tends to the :math:`\hat\nu` for which each row of :math:`\mathrm{diag}(s)\, H\, \mathrm{diag}(s)` has
    the norm 1, the symmetric equilibration of H (Ruiz, "A scaling algorithm to equilibrate both rows and columns norms
    in matrices", RAL-TR-2001-034). In other units, :math:`w_i \to c_i w_i`, it is :math:`\hat\nu_i / c_i^4`, so a step
    scales as its parameter does. Use it with ``eps=0``, a warm-up of the rate, and a `b2` of 0.9 or 0.95, which
    forgets the first estimates with s = 1. A diagonal knows no correlations: subtract the means of features. In float32
    natural scales from 1e-9 to 1e9 work. docs/units.md says where it fails.

    `state` is of any optimizer of `params` that contains this rule, once or for several parts; else ValueError. The
    result is like `params`, in their shardings, in float32 (float64 for float64 leaves). An entry without curvature has
    the scale of the largest curvature of its leaf; a leaf without any, or of another optimizer, has 1.
    """
    if params is None:
        raise ValueError("`params` (=None) must be given: scales are theirs. Pass them to `update`.")
    is_ours = lambda node: isinstance(node, ScaleByAdaHessianState)  # noqa: E731
    states = [node for node in jax.tree.leaves(state, is_leaf=is_ours) if is_ours(node)]
    if not states:
        raise ValueError(f"`state` holds no state of `adahessian`. {_RESTORED}")
    leaves, structure = jax.tree.flatten(params)
    scales = [jnp.ones_like(p, dtype=jnp.result_type(p, jnp.float32)) for p in leaves]
    for ours in states:
        moments = jax.tree.broadcast(ours.nu, params, is_leaf=is_masked)  # a box may be around a leaf of `params`
        for i, nu in enumerate(jax.tree.leaves(moments, is_leaf=is_masked)):
            scales[i] = scales[i] if is_masked(nu) else _scale(nu, scales[i])
    return jax.tree.unflatten(structure, scales)


def is_masked(node: Any) -> bool:
    """Whether `optax.masked` or `optax.partition` hides the parameters here."""
    return isinstance(node, optax.MaskedNode)


def _scale(nu: jax.Array, like: jax.Array) -> jax.Array:
    """``nu^(-1/4)`` with the shape and the sharding of `like`."""
    blocks = [max(n, 1) for n in nu.shape]  # an empty axis has none
    if nu.ndim != like.ndim or any(size % n for size, n in zip(like.shape, blocks, strict=True)):
        raise ValueError(f"`params` are not the parameters of `state`: {like.shape} has a `nu` of shape {nu.shape}.")
    least, largest = flat(nu.dtype), jnp.max(nu, initial=UNKNOWN)
    known = jnp.where(nu > least, nu, jnp.where(largest > least, largest, 1))
    block = tuple(size // n for size, n in zip(like.shape, blocks, strict=True))
    return block_expand(jax.lax.rsqrt(jnp.sqrt(known)), block, like) * jnp.ones_like(like)


def check_state(state: Any, updates: Any, has_momentum: bool, spatial_average: SpatialAverage) -> None:
    """Raises if `state` is not one that this configuration makes: restored without types, or written by another."""
    if not isinstance(state, ScaleByAdaHessianState):
        raise TypeError(f"`state` (a {type(state).__name__}) must be a `ScaleByAdaHessianState`. {_RESTORED}")
    if (state.mu is not None) != has_momentum:
        written, rule = ("b1=0", "b1>0") if has_momentum else ("b1>0", "b1=0")
        raise ValueError(f"`state` is of a rule with `{written}`, and this one has `{rule}`. {_REMEDY}")

    def blocks(block: tuple[int, ...], leaf: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct([n // b for n, b in zip(leaf.shape, block, strict=True)], leaf.dtype)

    check_like("state.nu", state.nu, spatial_average.map(blocks, updates), "that of this rule", _REMEDY)
