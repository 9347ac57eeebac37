"""The optimizer: AdaHessian with decoupled weight decay and a learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from optax_adahessian._bound import bound_step
from optax_adahessian._checks import check_finite, check_non_negative, is_mask
from optax_adahessian._spatial import SpatialAverage
from optax_adahessian._transform import scale_by_adahessian


def adahessian(
    learning_rate: optax.ScalarOrSchedule = 0.15,
    b1: jax.typing.ArrayLike = 0.99,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-12,
    hessian_power: jax.typing.ArrayLike = 1.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    *,
    update_interval: jax.typing.ArrayLike = 1,
    dense_start: jax.typing.ArrayLike = 10,
    spatial_average: SpatialAverage = SpatialAverage.none(),  # noqa: B008 - frozen
    time_average: str = "mean",
    nesterov: bool = True,
    max_step: jax.typing.ArrayLike | None = 0.004,
    mu_dtype: Any = None,
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The AdaHessian optimizer: momentum over an average of the Hessian's diagonal.

    With the gradient :math:`g_t`, the block mean :math:`\bar h_t` of an estimate of the Hessian's diagonal
    (`spatial_average`), t counted from 1 and D the steps since the last estimate,

    .. math::

        m_t &= \min(\max(m_{t-1} - \cos(g_t, \mu_{t-1}) / 5, 3), 1 / (1 - \beta_1)), \quad m_0 = 3 \\
        \beta_{1,t} &= \min(\beta_1, 1 - 1 / \min(m_t, t)) \\
        \mu_t &= \beta_{1,t} \mu_{t-1} + (1 - \beta_{1,t}) g_t \\
        \tilde\mu_t &= \beta_{1,t} \mu_t + (1 - \beta_{1,t}) g_t \\
        \nu_t &= \beta_2^D \nu_{t-1} + (1 - \beta_2^D) \bar h_t \\
        s_t &= \alpha_t \, \tilde\mu_t / (|\hat\nu_t|^k + \varepsilon)
            \quad \text{of which no entry is longer than } \rho \\
        w_t &= w_{t-1} - s_t - \alpha_t \lambda w_{t-1}

    where the cosine is that of the angle between the two trees as one vector each, 0 where one of them is zero, and the
    hat divides by the summed weight of the estimates in :math:`\nu_t`. An estimate stands for all the steps
    since the one before, so that :math:`\beta_2` keeps its meaning per step whatever the interval.

    This is the paper's method with three changes, measured one by one in the documentation's studies: the estimates are
    averaged over time with their sign, :math:`\rho` (`max_step`) bounds what an entry moves in a step, and the momentum
    is Nesterov's. The paper's own rule is
    ``adahessian(b1=0.9, eps=1e-4, time_average="rms", nesterov=False, max_step=None)``: there the denominator is
    :math:`\hat\nu_t^{k/2} + \varepsilon` with the average :math:`\nu_t` of :math:`d_t^2`, the squared block means
    :math:`d_t = \overline{|h_t|}`; the absolute value is taken before the block mean, as in the official code. The
    numerator is :math:`\mu_t / (1 - \beta_1^t)`, with :math:`\beta_1` at every step.

    `update` takes the curvature in one of two ways. ``obj_fn``, the loss as a function of the parameters alone,
    estimates inside, on the steps where ``refresh_due(count, update_interval, dense_start)`` holds. ``hessian_diag``,
    an estimate made outside by `value_grad_and_hessian_diag`, is the fast way: one pass for value, gradient and
    diagonal; ``hessian_diag=None`` says that this step has no new estimate and costs what Adam's does. With
    `hessian_diag` the loop decides when to estimate: `update_interval`, `dense_start` and `hessian_diagonal_fn` act on
    `obj_fn` alone. Jit the step that contains either.

    What the denominator is: the mean of the estimates tends to the diagonal. Their root mean square, with one probe
    and blocks of one, tends to :math:`(\sum_j H_{ij}^2)^{1/2}`, the norm of the Hessian's row and not
    :math:`|H_{ii}|`; n probes give :math:`(H_{ii}^2 + \frac1n \sum_{j \neq i} H_{ij}^2)^{1/2}`. So with "rms" more
    probes, larger blocks and own probes on each device change the effective learning rate, too.

    Until a first estimate the update is zero. An estimate with an entry that is not finite is rejected whole and
    counted in the state's `rejected`. A finite entry never is: it counts as at most half the root of the largest
    finite number, 9.2e18 in float32, so that the second moment stays finite. With "rms" the share
    :math:`(1 - \beta_2) h^2` of the smallest entries in the second moment underflows, below 4e-18 in float32 with
    ``b2=0.999``: they count as zero.

    Where the curvature is zero, as for a parameter that the loss does not use, or where its average crosses zero,
    `max_step` is the step. Without it eps is the denominator there and :math:`|\tilde\mu_t| / \varepsilon` bounds every
    entry of the update before decay and learning rate; with ``eps=0`` the quotient is infinite or NaN.

    Args:
      learning_rate: a number or an optax schedule; unit: none with ``hessian_power=1``, where 1 is Newton's step.
      b1: decay of the first moment, per step; with `nesterov` the largest that it comes to.
      b2: decay of the second moment, per step.
      eps: added to the denominator outside of the root and of the power; unit: that of the curvature (for k = 1).
        The default is far below any curvature that matters, and `max_step` bounds what a small one leads to. The
        paper's 1e-4 suits losses summed or averaged over examples; a mean over tokens wants less.
      hessian_power: k in [0, 1]; 1 is the paper's, 0 is momentum alone.
      weight_decay: decoupled, multiplied by the learning rate: a number or a schedule, as in `optax.adamw`.
      mask: a pytree of bools, or a function of the parameters that returns one: where to decay, as in `optax.adamw`.
      update_interval: steps between estimates from `obj_fn`. The Python int 1 compiles to no `cond`, which on the CPU
        makes convolutions inside it 10 to 30 times slower; for larger intervals prefer `hessian_diag`.
      dense_start: the first steps that estimate whatever the interval. Without them training tends to diverge.
      spatial_average: which entries share one second moment, see `SpatialAverage`.
      time_average: "mean" averages the estimates with their sign, in blocks and over time, and takes the absolute
        value last; "rms" is the root of the average square, the paper's. The mean has the noise of all estimates in
        reach of b2, so that a long memory is good for it.
      nesterov: Nesterov's momentum: the gradient of the step is weighted once more, which looks a step ahead, and the
        memory of the average, :math:`1 / (1 - \beta_{1,t})` steps, starts at 3, grows where gradients point against the
        average and shrinks where they point along it. The 3 and the fifth of a step are heuristics. False is a constant
        `b1` without look-ahead; 0.9 is usual there. In `optax.adam` the argument of this name is the look-ahead alone.
      max_step: the longest step of any entry, before decay and in the unit of the parameters; or None. It takes over
        from the learning rate where the curvature is small beside the gradient; compare it with a learning rate of
        Adam's.
      mu_dtype: dtype of the first moment; that of the parameters by default. The second moment is float32 for
        half-precision parameters.
      hessian_diagonal_fn: a transformation whose update returns the diagonal; ``hutchinson(num_probes=1, key=0)``
        by default. A foreign one gets all extra arguments of `update`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; other extra arguments of `update` are ignored.

    Raises:
      TypeError, ValueError: for an argument of the wrong type or outside of its range. Traced values, as those of
        `optax.inject_hyperparams` inside `jax.jit`, cannot be checked and pass.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adahessian as oah
      >>> loss_fn = lambda w: jnp.sum(jnp.array([1.0, 100.0]) * (w - 3.0) ** 2)
      >>> tx = oah.adahessian(learning_rate=1.0, b1=0.0, eps=0.0, max_step=None)
      >>> params = jnp.zeros(2)
      >>> updates, state = tx.update(jax.grad(loss_fn)(params), tx.init(params), params, obj_fn=loss_fn)
      >>> [float(w) for w in optax.apply_updates(params, updates)]
      [3.0, 3.0]

    Reference:
      Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney, "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine
      Learning", AAAI 2021, https://arxiv.org/abs/2006.00719.
    """
    if not callable(learning_rate):
        check_finite("learning_rate", learning_rate)
    if not callable(weight_decay):
        check_non_negative("weight_decay", weight_decay)
    if not is_mask(mask):
        raise TypeError(
            f"`mask` (={mask!r}) must be a pytree of bools, or a function of the parameters that returns one. "
            '`optax.inject_hyperparams` calls a function with the step instead: name it in `static_args=("mask",)`.'
        )
    return optax.chain(
        scale_by_adahessian(
            b1=b1,
            b2=b2,
            eps=eps,
            hessian_power=hessian_power,
            update_interval=update_interval,
            dense_start=dense_start,
            spatial_average=spatial_average,
            time_average=time_average,
            nesterov=nesterov,
            mu_dtype=mu_dtype,
            hessian_diagonal_fn=hessian_diagonal_fn,
        ),
        *([] if max_step is None else [bound_step(max_step, learning_rate)]),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
