"""AdaHessian as an optax transformation: momentum over the root of the averaged squared curvature."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian import _moments, _momentum
from optax_adahessian._checks import (
    check_choice,
    check_flag,
    check_floating_dtype,
    check_like,
    check_non_negative,
    check_real_leaves,
    check_state,
    check_unit_interval,
)
from optax_adahessian._curvature import hutchinson
from optax_adahessian._feed import NOT_GIVEN, check_feed, matching_diag
from optax_adahessian._schedule import check_schedule, refresh_due
from optax_adahessian._spatial import SpatialAverage

TIME_AVERAGES = ("rms", "mean")


class ScaleByAdaHessianState(NamedTuple):
    """State of `scale_by_adahessian`: arrays only."""

    count: jax.Array  # type: ignore[assignment] # shape=(), dtype=int32: steps taken
    last_estimate: jax.Array  # shape=(), dtype=int32: `count` after the step of the last accepted estimate, else 0
    nu_weight: jax.Array  # shape=(), dtype=float32 (float64 beside float64 leaves): summed weight of the estimates
    rejected: jax.Array  # shape=(), dtype=int32: estimates rejected as not finite
    memory: jax.Array  # shape=(), dtype of `nu_weight`: steps that Nesterov's momentum reaches back
    mu: optax.Updates  # shapes of the parameters, dtype=`mu_dtype` or theirs
    nu: optax.Updates  # mean of d^2 or of h, one entry per block, dtype=float32 (float64 for float64 leaves)
    estimator: optax.OptState  # of `hessian_diagonal_fn`


def scale_by_adahessian(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-4,
    hessian_power: jax.typing.ArrayLike = 1.0,
    *,
    update_interval: jax.typing.ArrayLike = 1,
    dense_start: jax.typing.ArrayLike = 10,
    spatial_average: SpatialAverage = SpatialAverage.none(),  # noqa: B008 - frozen
    time_average: str = "rms",
    nesterov: bool = False,
    mu_dtype: Any = None,
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Rescales updates by the AdaHessian algorithm.

    See `optax_adahessian.adahessian`, of which this is the part without weight decay, learning rate and the bound that
    goes with it. So the defaults are the paper's, its momentum included. ``time_average="mean"`` and a tiny `eps`, as
    in `adahessian`, want a bound behind them, such as ``optax.clip(max_step / learning_rate)``.

    Returns:
      A transformation with the state `ScaleByAdaHessianState`. Its updates have the dtypes of the gradients.

    Raises:
      TypeError, ValueError: for an argument of the wrong type or outside of its range; by `init` and `update`, for
        leaves that are not real, a state of another transformation, and trees of another structure or shape.
    """
    check_unit_interval("b1", b1, closed=False)
    check_unit_interval("b2", b2, closed=False)
    check_non_negative("eps", eps)
    check_unit_interval("hessian_power", hessian_power, closed=True)
    check_schedule(update_interval, dense_start)
    if not isinstance(spatial_average, SpatialAverage):
        raise TypeError(
            f"`spatial_average` (={spatial_average!r}) must be a SpatialAverage. Pass e.g. SpatialAverage.conv('HWIO')."
        )
    check_choice("time_average", time_average, TIME_AVERAGES)
    check_flag("nesterov", nesterov)
    mu_dtype = check_floating_dtype("mu_dtype", mu_dtype)
    if hessian_diagonal_fn is not None and not isinstance(hessian_diagonal_fn, optax.GradientTransformation):
        raise TypeError(
            f"`hessian_diagonal_fn` (={hessian_diagonal_fn!r}) must be an optax transformation whose update returns "
            "the Hessian diagonal. Pass e.g. hutchinson(num_probes=4), called."
        )
    estimator = hutchinson() if hessian_diagonal_fn is None else optax.with_extra_args_support(hessian_diagonal_fn)

    def init_fn(params: optax.Params) -> ScaleByAdaHessianState:
        check_real_leaves("params", params)
        # Python numbers become arrays; abstract leaves, which cannot, have shape and dtype already.
        params = jax.tree.map(lambda p: p if hasattr(p, "shape") else jnp.asarray(p), params)
        nu = _moments.zero_second_moment(params, spatial_average)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(nu))
        return ScaleByAdaHessianState(
            count=jnp.zeros([], jnp.int32),
            last_estimate=jnp.zeros([], jnp.int32),
            nu_weight=jnp.zeros([], dtype),
            rejected=jnp.zeros([], jnp.int32),
            memory=jnp.full([], _momentum.FIRST_MEMORY, dtype),
            mu=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=mu_dtype or jnp.result_type(p)), params),
            nu=nu,
            estimator=estimator.init(params),
        )

    def fold(state: ScaleByAdaHessianState, hessian_diag: optax.Updates) -> ScaleByAdaHessianState:
        """Takes an estimate into the second moment, for all the steps since the last one; or rejects it whole."""
        of_estimate = _moments.squared_curvature if time_average == "rms" else _moments.signed_curvature
        curvature = of_estimate(hessian_diag, state.nu, spatial_average)
        accepted = _moments.all_finite(curvature)
        count = optax.safe_increment(state.count)
        weight = _moments.ema_weight(b2, count - state.last_estimate, state.nu_weight.dtype)

        def average(old: jax.Array, new: jax.typing.ArrayLike) -> jax.Array:
            w = weight.astype(old.dtype)
            return jnp.where(accepted, (1 - w) * old + w * new, old)

        return state._replace(
            last_estimate=jnp.where(accepted, count, state.last_estimate),
            nu_weight=average(state.nu_weight, 1.0),
            rejected=jnp.where(accepted, state.rejected, optax.safe_increment(state.rejected)),
            nu=jax.tree.map(average, state.nu, curvature),
        )

    def momentum(
        updates: optax.Updates, state: ScaleByAdaHessianState, count: jax.Array
    ) -> tuple[optax.Updates, jax.Array, optax.Updates, jax.Array]:
        """The numerator and its weight, and the new `mu`, not yet rounded, and `memory`."""
        if not nesterov:
            mu = _momentum.first_moment(updates, state.mu, b1)
            return mu, _moments.ema_weight(b1, count, state.nu_weight.dtype), mu, state.memory
        memory = _momentum.adapted_memory(state.memory, updates, state.mu, b1)
        decay = _momentum.decay_of(memory, count)
        mu = _momentum.first_moment(updates, state.mu, decay)
        return _momentum.first_moment(updates, mu, decay), jnp.ones([]), mu, memory  # looks a step ahead

    def update_fn(
        updates: optax.Updates,
        state: ScaleByAdaHessianState,
        params: optax.Params | None = None,
        *,
        obj_fn: Any = NOT_GIVEN,
        hessian_diag: Any = NOT_GIVEN,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScaleByAdaHessianState]:
        check_feed(obj_fn, hessian_diag, params, needs_obj_fn=hessian_diagonal_fn is None)
        check_state(state, ScaleByAdaHessianState)
        check_real_leaves("updates", updates)
        check_like("updates", updates, state.mu)
        if obj_fn is not NOT_GIVEN and params is not None:
            check_like("params", params, state.mu, like="the parameters that `init` was given")
        updates = jax.tree.map(jnp.asarray, updates)

        def estimate(state: ScaleByAdaHessianState) -> ScaleByAdaHessianState:
            feed = extra_args if obj_fn is NOT_GIVEN else {"obj_fn": obj_fn, **extra_args}
            diag, estimator_state = estimator.update(updates, state.estimator, params, **feed)
            return fold(state._replace(estimator=estimator_state), matching_diag(diag, updates))

        folded = state._replace(mu=None)  # a cond would copy mu
        if hessian_diag is NOT_GIVEN:
            if isinstance(update_interval, int) and update_interval == 1:
                folded = estimate(folded)  # no cond: on the CPU convolutions inside one run 10 to 30 times slower
            else:
                due = refresh_due(state.count, update_interval, dense_start)
                folded = jax.lax.cond(due, estimate, lambda state: state, folded)
        elif hessian_diag is not None:
            folded = fold(folded, matching_diag(hessian_diag, updates))

        count = optax.safe_increment(state.count)
        numerator, weight, mu, memory = momentum(updates, state, count)
        of_average = _moments.powered_root if time_average == "rms" else _moments.powered_magnitude
        nu_root = of_average(folded.nu, folded.nu_weight, hessian_power)
        return (
            _moments.directions(updates, numerator, weight, nu_root, eps, spatial_average),
            folded._replace(
                count=count, mu=jax.tree.map(lambda m, old: m.astype(old.dtype), mu, state.mu), memory=memory
            ),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
