"""AdaHessian: momentum over the root of the averaged squared curvature."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian._errors import as_number, check_real_leaves, check_type
from optax_adahessian._feed import Feed, feed
from optax_adahessian._momentum import moving_average
from optax_adahessian._spatial_average import SpatialAverage, block_expand, block_mean
from optax_adahessian._state import UNKNOWN, ScaleByAdaHessianState, check_state, flat


def adahessian(
    learning_rate: optax.ScalarOrSchedule = 0.15,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-4,
    hessian_power: jax.typing.ArrayLike = 1.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    *,
    spatial_average: SpatialAverage = SpatialAverage.none(),  # noqa: B008 - frozen
    update_interval: jax.typing.ArrayLike = 1,
    dense_start: jax.typing.ArrayLike = 10,
    mu_dtype: Any = None,
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
    equilibrate: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The AdaHessian optimizer, with the rule and the defaults of the paper (Yao et al., AAAI 2021, arXiv 2006.00719).

    With the gradient :math:`g_t`, an estimate :math:`h_t` of the Hessian's diagonal, and the block mean
    :math:`d_t = \overline{|h_t|}` of `spatial_average`,

    .. math::

        \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1) g_t \\
        \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2) d_t^2 \\
        w_t &= w_{t-1} - \alpha_t \left( \frac{\hat\mu_t}{\hat\nu_t^{k/2} + \varepsilon} + \lambda w_{t-1} \right)

    where the hats divide by :math:`1 - \beta^t`, t from 1. An estimate counts for all D steps since the last one, with
    weight :math:`1 - \beta_2^D`. With n probes and blocks of one, :math:`\hat\nu_t` tends to
    :math:`H_{ii}^2 + \frac1n \sum_{j \neq i} H_{ij}^2`: more probes, and larger blocks, also change the effective
    learning rate.

    `update` takes the curvature in one of two ways. ``hessian_diag`` is an estimate from
    `value_grad_and_hessian_diag`, or None for a step without a new one. ``obj_fn`` (or ``value_fn``, as in Optax's line
    searches) is the loss as a function of the parameters alone, from which `update` estimates if
    ``refresh_due(count, update_interval, dense_start)``. Other extra arguments are ignored. Call it inside `jax.jit`.

    For networks start with
    ``optax.chain(adaptive_nesterov(), adahessian(0.15, b1=0, b2=0.98, eps=1e-8), optax.clip(0.01))``. For parameters
    with units use ``adahessian(schedule, b2=0.95, eps=0.0, equilibrate=True)``: warm up to a rate of 1, and decay to 0.

    A block whose estimate is not finite keeps its average. One without any finite estimate so far makes no step, apart
    from weight decay, and with ``eps=0`` neither does one whose curvature is exactly 0. An entry whose first moment is
    not finite gets the update NaN, as in `optax.adam`.

    Args:
      learning_rate: a number or an Optax schedule; it has no unit if ``hessian_power=1``, where 1 is Newton's step.
      b1, b2: decays of the moments, per step. With ``b1=0``, as a Python number, no first moment is stored.
      eps: added to the denominator. It has the unit of the curvature to the power k, and so scales with the loss.
      hessian_power: k in [0, 1]; 1 is the paper's, 0 is momentum alone.
      weight_decay, mask: decoupled decay, a number or a schedule, and where it acts, as in `optax.adamw`.
      spatial_average: which entries share one second moment, see `SpatialAverage`.
      update_interval: steps between estimates from `obj_fn`. An interval above 1 needs a `lax.cond`, in which
        convolutions run 10 to 30 times slower on the CPU: there prefer `hessian_diag`.
      dense_start: the first steps, which estimate from `obj_fn` whatever the interval.
      mu_dtype: dtype of the first moment; by default that of the parameters.
      hessian_diagonal_fn: the estimator behind `obj_fn`, a transformation like `hutchinson`, the default.
      equilibrate: draw the probes of `obj_fn` in the parameters' own units, see `probe_scale`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adahessian as oah
      >>> loss_fn = lambda w: jnp.sum(jnp.array([1.0, 100.0]) * (w - 3.0) ** 2)
      >>> tx, params = oah.adahessian(learning_rate=1.0, b1=0, eps=0.0), jnp.zeros(2)
      >>> updates, state = tx.update(jax.grad(loss_fn)(params), tx.init(params), params, obj_fn=loss_fn)
      >>> [float(w) for w in optax.apply_updates(params, updates)]
      [3.0, 3.0]
    """
    if not callable(weight_decay):
        weight_decay = as_number("weight_decay", weight_decay)
    return optax.chain(
        scale_by_adahessian(
            b1,
            b2,
            eps,
            hessian_power,
            spatial_average=spatial_average,
            update_interval=update_interval,
            dense_start=dense_start,
            mu_dtype=mu_dtype,
            hessian_diagonal_fn=hessian_diagonal_fn,
            equilibrate=equilibrate,
        ),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_adahessian(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-4,
    hessian_power: jax.typing.ArrayLike = 1.0,
    *,
    spatial_average: SpatialAverage = SpatialAverage.none(),  # noqa: B008 - frozen
    update_interval: jax.typing.ArrayLike = 1,
    dense_start: jax.typing.ArrayLike = 10,
    mu_dtype: Any = None,
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
    equilibrate: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """`adahessian` without learning rate and weight decay; updates have the dtypes of the gradients."""
    eps = as_number("eps", eps)
    hessian_power = as_number("hessian_power", hessian_power, high=1, closed=True)
    return scale_by_curvature(
        second_moment,
        functools.partial(direction, eps=eps, hessian_power=hessian_power),
        feed(hessian_diagonal_fn, update_interval, dense_start, equilibrate),
        as_number("b1", b1, high=1),
        as_number("b2", b2, high=1),
        spatial_average,
        mu_dtype,
    )


def scale_by_curvature(
    second_moment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    direction: Callable[[jax.Array, jax.Array], jax.Array],
    feed: Feed,
    b1: Any,
    b2: Any,
    spatial_average: SpatialAverage,
    mu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The transformation around a rule, which is two functions of one leaf.

    ``second_moment(weight, d, nu)`` takes the finite curvature d of each block into its running mean, with the weight
    ``(1 - b2^D) / (1 - b2^t)`` of an estimate for D steps, or 1 if it is the first. ``direction(mu, nu)`` is the
    update, from the bias-corrected first moment and `nu` expanded from blocks, `UNKNOWN` before the first estimate.
    """
    check_type("spatial_average", spatial_average, SpatialAverage, "SpatialAverage.conv('HWIO')")
    has_momentum = not (isinstance(b1, (int, float)) and b1 == 0)

    def init_fn(params: optax.Params) -> ScaleByAdaHessianState:
        check_real_leaves("params", params)
        params = jax.tree.map(lambda p: jnp.asarray(p) if isinstance(p, (float, np.ndarray)) else p, params)

        def unknown(block: tuple[int, ...], p: Any) -> jax.Array:
            return block_mean(jnp.full_like(p, UNKNOWN, dtype=jnp.promote_types(p.dtype, jnp.float32)), block)

        return ScaleByAdaHessianState(
            count=jnp.zeros([], jnp.int32),
            last_estimate=jnp.zeros([], jnp.int32),
            mu=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=mu_dtype or p.dtype), params) if has_momentum else None,
            nu=spatial_average.map(unknown, params),
            estimator=feed.init(params),
        )

    def fold(state: ScaleByAdaHessianState, hessian_diag: Any) -> ScaleByAdaHessianState:
        count = optax.safe_increment(state.count)
        weight = _ema_weight(b2, count - state.last_estimate, state.nu) / _ema_weight(b2, count, state.nu)

        def average(block: tuple[int, ...], h: jax.Array, nu: jax.Array) -> jax.Array:
            h = h.astype(nu.dtype)
            d = block_mean(h if spatial_average.signed else jnp.abs(h), block)
            ok = jnp.isfinite(d)
            d = jnp.where(ok, d, 0)
            own_weight = jnp.where(nu == UNKNOWN, 1, weight.astype(nu.dtype))
            return jax.lax.select(ok, second_moment(own_weight, d, nu), nu)

        return state._replace(last_estimate=count, nu=spatial_average.map(average, hessian_diag, state.nu))

    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, ScaleByAdaHessianState]:
        updates = jax.tree.map(jnp.asarray, updates)
        check_state(state, updates, has_momentum, spatial_average)
        mu = state.mu
        # Without the first moment, of which a `lax.cond` would make a copy.
        state = feed.fold_estimate(fold, state._replace(mu=None), updates, params, extra_args)
        count = optax.safe_increment(state.count)
        moments = updates
        if has_momentum:
            averages = jax.tree.map(functools.partial(moving_average, b1), updates, mu)
            weight = _ema_weight(b1, count, state.nu)
            moments = jax.tree.map(lambda m: m / weight.astype(m.dtype), averages)
            mu = jax.tree.map(lambda m, old: m.astype(old.dtype), averages, mu)

        def step(block: tuple[int, ...], g: jax.Array, m: jax.Array, nu: jax.Array) -> jax.Array:
            return direction(m, block_expand(nu, block, g)).astype(g.dtype)

        return spatial_average.map(step, updates, moments, state.nu), state._replace(count=count, mu=mu)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def second_moment(weight: jax.Array, d: jax.Array, nu: jax.Array) -> jax.Array:
    """The running mean of d^2."""
    largest = jnp.finfo(nu.dtype).max / 4  # where the square of a finite curvature is infinite
    return jax.lax.clamp(flat(nu.dtype), (1 - weight) * nu + weight * jnp.square(d), largest)


def direction(mu: jax.Array, nu: jax.Array, *, eps: Any, hessian_power: Any) -> jax.Array:
    """``mu / (nu^(k/2) + eps)``; no step where nothing is known of the curvature, nor where it is 0 and eps is 0."""
    least = flat(nu.dtype)
    denominator = jnp.sqrt(jnp.maximum(nu, least)) ** hessian_power + eps
    known = nu > least * (eps <= 0)  # above `UNKNOWN`, and above `flat` if eps is 0
    step = mu / jnp.where(known, denominator, jnp.inf)
    # An infinite step would leave a clip as one of the clip's length, for ever.
    return jnp.where(jnp.isfinite(mu), step, jnp.nan)


def _ema_weight(decay: Any, steps: jax.Array, nu: Any) -> jax.Array:
    """``1 - decay**steps`` for ``steps >= 1``, without the cancellation where decay is near 1, as precise as `nu`."""
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(nu))
    # A Python number keeps its double precision: log(0.999) of a float32 is off by 3e-5 of itself.
    log_decay = jnp.log(decay) if isinstance(decay, jax.Array) else math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(steps.astype(dtype) * log_decay)
