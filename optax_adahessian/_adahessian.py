"""AdaHessian: momentum over the root of the averaged squared curvature."""

import contextlib
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._errors import check_integer, check_like, check_number, check_real_leaves, check_type
from optax_adahessian._estimate import hutchinson, is_due
from optax_adahessian._spatial_average import SpatialAverage, block_expand, block_mean

_ONE_FEED = (
    "`update` needs one of them: `obj_fn=lambda p: loss_fn(p, batch)`, or `hessian_diag=hessian_diag` from "
    "`loss, grads, hessian_diag = value_grad_and_hessian_diag(loss_fn)(key, params, batch)`."
)


class ScaleByAdaHessianState(NamedTuple):
    """State of `scale_by_adahessian`: arrays only."""

    count: jax.Array  # type: ignore[assignment] # shape=(), dtype=int32: steps taken
    last_estimate: jax.Array  # shape=(), dtype=int32: `count` after the step of the last estimate, else 0
    rejected: jax.Array  # shape=(), dtype=int32: estimates with an entry that was not finite
    mu: optax.Updates | None  # shapes of the parameters, dtype=`mu_dtype` or theirs; None with b1=0
    nu: optax.Updates  # mean of d^2, one entry per block, dtype=float32 (float64 for float64 leaves); 0: no estimate
    estimator: optax.OptState  # of `hessian_diagonal_fn`


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
) -> optax.GradientTransformationExtraArgs:
    r"""The AdaHessian optimizer, with the rule and the defaults of the paper.

    With the gradient :math:`g_t`, an estimate :math:`h_t` of the Hessian's diagonal, and the block mean
    :math:`d_t = \overline{|h_t|}` of `spatial_average`,

    .. math::

        \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1) g_t \\
        \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2) d_t^2 \\
        w_t &= w_{t-1} - \alpha_t \left( \frac{\hat\mu_t}{\hat\nu_t^{k/2} + \varepsilon} + \lambda w_{t-1} \right)

    where the hats divide by :math:`1 - \beta^t`, t from 1. The absolute value is taken before the block mean, as in
    the official code. An estimate counts for all D steps since the last one, with weight :math:`1 - \beta_2^D`, so that
    :math:`\beta_2` keeps its meaning per step whatever the interval. The state holds :math:`\hat\nu_t`.

    `update` takes the curvature in one of two ways. ``hessian_diag`` is an estimate made outside by
    `value_grad_and_hessian_diag`, in one pass with value and gradient; ``hessian_diag=None`` is a step without a new
    estimate, at the cost of an Adam step. ``obj_fn`` is the loss as a function of the parameters alone, from which
    `update` estimates if ``refresh_due(count, update_interval, dense_start)``. ``value_fn``, its name in Optax's line
    searches, serves as `obj_fn` if neither is given; other extra arguments are ignored. Call the step inside `jax.jit`:
    outside, an `obj_fn` with an interval above 1 compiles at each step.

    With n probes and blocks of one, :math:`\hat\nu_t` tends to :math:`H_{ii}^2 + \frac1n \sum_{j \neq i} H_{ij}^2`.
    So more probes, larger blocks and separate probes on each device also change the effective learning rate. Small
    denominators make long steps: an interval above 1 needs ``optax.clip(0.01)`` after this rule. Start with
    ``optax.chain(adaptive_nesterov(), adahessian(0.15, b1=0, b2=0.98, eps=1e-8), optax.clip(0.01))``.

    A block whose estimate is not finite keeps its average, and one without any finite estimate so far makes no step,
    apart from weight decay. An entry whose first moment is not finite gets the update NaN, as in `optax.adam`.

    Args:
      learning_rate: a number or an Optax schedule; it has no unit if ``hessian_power=1``, where 1 is Newton's step.
      b1: decay of the first moment, per step. With the Python number 0 no first moment is stored.
      b2: decay of the second moment, per step.
      eps: added to the denominator outside of the root and of the power; unit: that of the curvature (for k = 1), which
        scales with the loss: 1e-8 suits a mean over tokens.
      hessian_power: k in [0, 1]; 1 is the paper's, 0 is momentum alone.
      weight_decay: decoupled, multiplied by the learning rate: a number or a schedule, as in `optax.adamw`.
      mask: where to decay, as in `optax.adamw`: a pytree of bools, or a function of the parameters that returns one.
      spatial_average: which entries share one second moment, see `SpatialAverage`.
      update_interval: steps between estimates from `obj_fn`. The Python int 1 needs no `lax.cond`, in which
        convolutions run 10 to 30 times slower on the CPU; for larger intervals prefer `hessian_diag`.
      dense_start: the first steps, which estimate from `obj_fn` whatever the interval.
      mu_dtype: dtype of the first moment; that of the parameters by default.
      hessian_diagonal_fn: the estimator behind `obj_fn`, a transformation whose update returns the diagonal;
        `hutchinson` by default. A foreign one is given all extra arguments of `update`.

    Raises:
      TypeError, ValueError: for an argument out of its range (traced values pass), or a diagonal that does not fit.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adahessian as oah
      >>> loss_fn = lambda w: jnp.sum(jnp.array([1.0, 100.0]) * (w - 3.0) ** 2)
      >>> tx = oah.adahessian(learning_rate=1.0, b1=0, eps=0.0)
      >>> params = jnp.zeros(2)
      >>> updates, state = tx.update(jax.grad(loss_fn)(params), tx.init(params), params, obj_fn=loss_fn)
      >>> [float(w) for w in optax.apply_updates(params, updates)]
      [3.0, 3.0]

    Reference:
      Yao et al., "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning", AAAI 2021, arXiv 2006.00719.
    """
    if not callable(weight_decay):
        check_number("weight_decay", weight_decay)
    return optax.chain(
        scale_by_adahessian(
            b1=b1,
            b2=b2,
            eps=eps,
            hessian_power=hessian_power,
            spatial_average=spatial_average,
            update_interval=update_interval,
            dense_start=dense_start,
            mu_dtype=mu_dtype,
            hessian_diagonal_fn=hessian_diagonal_fn,
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
) -> optax.GradientTransformationExtraArgs:
    """`adahessian` without learning rate and weight decay; updates have the dtypes of the gradients."""
    check_number("b1", b1, high=1)
    check_number("b2", b2, high=1)
    check_number("eps", eps)
    check_number("hessian_power", hessian_power, high=1, closed=True)
    check_integer("update_interval", update_interval, minimum=1)
    check_integer("dense_start", dense_start, minimum=0)
    check_type("spatial_average", spatial_average, SpatialAverage, "SpatialAverage.conv('HWIO')")
    if hessian_diagonal_fn is not None:
        check_type("hessian_diagonal_fn", hessian_diagonal_fn, optax.GradientTransformation, "hutchinson(num_probes=4)")
    estimator = hutchinson() if hessian_diagonal_fn is None else optax.with_extra_args_support(hessian_diagonal_fn)
    has_momentum = not (isinstance(b1, (int, float)) and b1 == 0)

    def init_fn(params: optax.Params) -> ScaleByAdaHessianState:
        check_real_leaves("params", params)
        params = jax.tree.map(lambda p: p if hasattr(p, "shape") else jnp.asarray(p), params)

        def zero_blocks(block: tuple[int, ...], p: Any) -> jax.Array:
            return block_mean(jnp.zeros_like(p, dtype=jnp.result_type(p, jnp.float32)), block)

        return ScaleByAdaHessianState(
            count=jnp.zeros([], jnp.int32),
            last_estimate=jnp.zeros([], jnp.int32),
            rejected=jnp.zeros([], jnp.int32),
            mu=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=mu_dtype), params) if has_momentum else None,
            nu=spatial_average.map(zero_blocks, params),
            estimator=estimator.init(params),
        )

    # Jitted, the arithmetic on a leaf is traced and lowered once for each distinct shape instead of for each leaf.
    @jax.jit
    def momentum(g: jax.Array, m: jax.Array) -> Any:  # not yet rounded to the dtype that it is stored in
        dtype = jnp.promote_types(g.dtype, jnp.float32)
        decay = b1.astype(dtype) if isinstance(b1, jax.Array) else b1
        return decay * m.astype(dtype) + (1 - decay) * g.astype(dtype)

    @functools.partial(jax.jit, static_argnums=1)
    def direction(weight: jax.Array, block: tuple[int, ...], g: jax.Array, m: jax.Array, nu: jax.Array) -> jax.Array:
        denominator = block_expand(weight.astype(nu.dtype) * _denominator(nu, hessian_power, eps), block, g)
        # Infinity over infinity is NaN. An infinite step would leave a clip as one of the clip's length, for ever.
        return (m / jnp.where(jnp.isfinite(m), denominator, jnp.inf)).astype(g.dtype)

    # None is a value of `hessian_diag`, and a mark of our own for "not given" would not survive pickling.
    def update_fn(
        updates: Any, state: Any, params: Any = None, *, obj_fn: Any = None, hessian_diag: Any = ..., **extra_args: Any
    ) -> tuple[optax.Updates, ScaleByAdaHessianState]:
        if obj_fn is None and hessian_diag is ...:
            obj_fn = extra_args.get("value_fn")
        _check_feed(obj_fn, hessian_diag, params, needs_one=hessian_diagonal_fn is None)
        updates = jax.tree.map(jnp.asarray, updates)

        def fold(state: ScaleByAdaHessianState, diag: Any) -> ScaleByAdaHessianState:
            return _with_estimate(state, _matching_diag(diag, updates), b2, spatial_average)

        def estimate(state: ScaleByAdaHessianState) -> ScaleByAdaHessianState:
            feed = extra_args if obj_fn is None else {**extra_args, "obj_fn": obj_fn}
            diag, estimator_state = estimator.update(updates, state.estimator, params, **feed)
            return fold(state._replace(estimator=estimator_state), diag)

        folded = state._replace(mu=None)  # a cond would copy mu
        if hessian_diag is not ...:
            folded = folded if hessian_diag is None else fold(folded, hessian_diag)
        elif isinstance(update_interval, int) and update_interval == 1:
            folded = estimate(folded)
        else:
            due = is_due(state.count, update_interval, dense_start)
            folded = jax.lax.cond(due, estimate, lambda state: state, folded)

        count = optax.safe_increment(state.count)
        weight = _ema_weight(b1, count, state.nu)
        moments = jax.tree.map(momentum, updates, state.mu) if has_momentum else updates
        directions = spatial_average.map(functools.partial(direction, weight), updates, moments, folded.nu)
        mu = jax.tree.map(lambda m, old: m.astype(old.dtype), moments, state.mu) if has_momentum else None
        return directions, folded._replace(count=count, mu=mu)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _ema_weight(decay: Any, steps: jax.Array, nu: Any) -> jax.Array:
    """``1 - decay**steps`` for ``steps >= 1``, without the cancellation where decay is near 1, as precise as `nu`."""
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(nu))
    # A Python number keeps its double precision: log(0.999) of a float32 is off by 3e-5 of itself.
    log_decay = jnp.log(decay) if isinstance(decay, jax.Array) else math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(steps.astype(dtype) * log_decay)


def _with_estimate(
    state: ScaleByAdaHessianState, hessian_diag: Any, b2: Any, spatial_average: SpatialAverage
) -> ScaleByAdaHessianState:
    """The state with an estimate in its second moment, for all the steps since the last one."""
    count = optax.safe_increment(state.count)
    weight = _ema_weight(b2, count - state.last_estimate, state.nu) / _ema_weight(b2, count, state.nu)
    curvatures = spatial_average.map(functools.partial(_curvature, spatial_average.signed), hessian_diag, state.nu)
    finite = functools.reduce(operator.and_, [jnp.all(jnp.isfinite(d)) for d in jax.tree.leaves(curvatures)], True)
    return state._replace(
        last_estimate=count,
        rejected=jnp.where(finite, state.rejected, state.rejected + 1),
        nu=jax.tree.map(functools.partial(_average, weight), curvatures, state.nu),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _curvature(signed: bool, block: tuple[int, ...], h: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.abs(block_mean((h if signed else jnp.abs(h)).astype(like.dtype), block))


@jax.jit
def _average(weight: jax.Array, d: jax.Array, old: jax.Array) -> jax.Array:
    if d.shape != old.shape:
        raise ValueError(f"The state is of another `spatial_average`: its `nu` is {old.shape}, and not {d.shape}.")
    w, finite, number = weight.astype(old.dtype), jnp.isfinite(d), jnp.finfo(old.dtype)
    # A second moment of 0 means that the block had no finite estimate so far; the first one has the weight 1.
    new = (1 - w) * old + jnp.where(old > 0, w, 1) * jnp.where(finite, d, 0) ** 2
    # Flat is not unknown: a curvature of 0 is stored as the smallest normal number. Squares stay finite.
    return jnp.where(finite, jnp.clip(new, number.tiny, number.max / 4), old)


def _denominator(nu: jax.Array, hessian_power: Any, eps: Any) -> jax.Array:
    """``nu^(k/2) + eps``, and infinite where nothing is known of the curvature, so that there is no step."""
    tiny = jnp.finfo(nu.dtype).tiny
    root = jnp.sqrt(jnp.where(nu > tiny, nu, tiny))  # the root's derivative at 0 would be infinite
    return jnp.where(nu > 0, root**hessian_power + eps, jnp.inf)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _check_feed(obj_fn: Any, hessian_diag: Any, params: Any, needs_one: bool) -> None:
    """Raises unless exactly one of `obj_fn` and `hessian_diag` is given, and `obj_fn` has whole parameters."""
    if obj_fn is not None and hessian_diag is not ...:
        raise ValueError(f"`obj_fn` and `hessian_diag` were both given. {_ONE_FEED}")
    if obj_fn is None and hessian_diag is ... and needs_one:
        raise ValueError(
            f"Neither `obj_fn` nor `hessian_diag` was given. {_ONE_FEED} Flax's `TrainState.apply_gradients` and some "
            "wrappers of Optax do not pass them on: see docs/in_your_framework.md and docs/compatibility.md."
        )
    if obj_fn is not None and any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked))):
        raise ValueError(
            "`obj_fn` cannot be computed where `optax.masked` or `optax.partition` hide a part of the parameters. Make "
            "the estimate outside, for all of them, and pass `hessian_diag=` to the outer `update`, which cuts it."
        )


def _matching_diag(hessian_diag: Any, updates: Any) -> Any:
    """`hessian_diag` on the leaves that `updates` has; raises if structure, shape or dtype do not fit."""
    if getattr(updates, "ndim", None) == 1 and not hasattr(hessian_diag, "shape"):
        raise ValueError(
            "`hessian_diag` is a tree, but `update` is given the parameters as one vector, as in `optax.flatten`. "
            "Pass `hessian_diag=jax.flatten_util.ravel_pytree(hessian_diag)[0]`, of the same parameters."
        )
    with contextlib.suppress(ValueError):  # `check_like` names the leaf that differs
        hessian_diag = jax.tree.map(lambda u, h: u if _is_masked(u) else h, updates, hessian_diag, is_leaf=_is_masked)
    check_real_leaves("hessian_diag", hessian_diag)
    check_like("hessian_diag", hessian_diag, updates)
    return hessian_diag
