"""Hutchinson's estimate of the Hessian diagonal: beside value and gradient, and as an optax transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._checks import check_axis_name, check_callable, check_flag, check_state, check_static_integer
from optax_adahessian._diagonal import estimated_diag
from optax_adahessian._losses import checked_loss
from optax_adahessian._probes import check_key
from optax_adahessian._products import Hvp, check_hvp
from optax_adahessian._replicas import Axes, check_axis, mean_over_replicas


def value_grad_and_hessian_diag(
    fun: Callable[..., Any],
    has_aux: bool = False,
    num_probes: int = 1,
    axis_name: Axes = None,
    hvp: Hvp = "forward_over_reverse",
    unroll: bool = True,
) -> Callable[..., tuple[Any, Any, Any]]:
    r"""Value, gradient and Hutchinson's estimate of the Hessian diagonal of `fun`, in one pass.

    .. math::

        h = \frac{1}{n} \sum_{s=1}^{n} z_s \odot H z_s, \qquad z_s \sim \{-1, +1\}^d,
        \qquad \mathrm{E}[h] = \mathrm{diag}(H), \qquad
        \mathrm{Var}[h_i] = \frac{1}{n} \sum_{j \neq i} H_{ij}^2

    with n = `num_probes`. Unbiased, since :math:`\mathrm{E}[z_i z_j]` is 1 for i = j and 0 otherwise; exact with
    one probe where H is diagonal. One probe costs about 3 gradients in all, each further one about 2; several
    share one linearization and hold its residuals in memory.

    Args:
      fun: the loss, ``fun(params, *args, **kwargs)``, a real scalar; with `has_aux` a pair (loss, aux).
      has_aux: whether `fun` returns auxiliary output, as in `jax.value_and_grad`.
      num_probes: n, the number of random sign vectors to average over.
      axis_name: a mapped axis (or several) over which the parameters are replicated and the batch is split:
        loss, gradient and diagonal are averaged over it. The key decides about the probes: the same key on
        every replica is one shared probe; `jax.random.fold_in(key, jax.lax.axis_index(axis_name))` gives each
        its own, the variance of as many probes, and another expected denominator. A loss that itself averages over
        the axis (batch statistics of all devices) needs the shared probe: with own ones the curvature that runs
        through the averages is missing.
      hvp: "forward_over_reverse", or "reverse_over_reverse" for losses that forward mode cannot pass.
      unroll: whether the program holds every probe one after the other, or, with False, a loop over them: the
        same estimate with less memory and a compile time that does not grow with n. Convolutions in a loop run 10
        to 30 times slower on the CPU.

    Returns:
      A function ``estimate(key, params, *args, **kwargs)`` that returns ``(loss, grads, hessian_diag)``, with
      `has_aux` ``((loss, aux), grads, hessian_diag)``; aux is untouched, each replica's own. Gradient and diagonal
      have the structure, shapes and dtypes of `params`. Call it inside `jax.jit`.

    Raises:
      TypeError: for an argument of the wrong type, a `fun` that is not callable or not scalar, a key that is none,
        leaves that are not real, or a loss that forward mode cannot pass.
      ValueError: for an unknown `hvp`, `num_probes` below 1, an unbound axis, or parameters that vary over it.

    Example:
      >>> import jax, jax.numpy as jnp, optax_adahessian as oah
      >>> estimate = jax.jit(oah.value_grad_and_hessian_diag(lambda w, x: jnp.sum(x * w**2)))
      >>> loss, grads, diag = estimate(jax.random.key(0), jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
      >>> float(loss), [float(g) for g in grads], [float(h) for h in diag]
      (19.0, [6.0, 16.0], [6.0, 8.0])

    Reference:
      Hutchinson, "A stochastic estimator of the trace of the influence matrix", Commun. Stat. 18(3), 1989;
      Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a matrix", Appl. Numer. Math. 57, 2007.
    """
    check_callable("fun", fun, "lambda params, batch: ...")
    check_flag("has_aux", has_aux)
    check_static_integer("num_probes", num_probes, minimum=1)
    check_axis_name("axis_name", axis_name)
    check_hvp(hvp)
    check_flag("unroll", unroll)

    def estimate(key: jax.Array, params: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        check_key("key", key)
        loss = checked_loss("fun", fun, has_aux, args, kwargs)
        (value, aux), grads, diag = estimated_diag(loss, key, params, num_probes, axis_name, hvp, unroll)
        value, grads, diag = mean_over_replicas((value, grads, diag), axis_name)
        return ((value, aux) if has_aux else value), grads, diag

    return estimate


class HutchinsonState(NamedTuple):
    """State of `hutchinson`."""

    draws: jax.Array  # shape=(), dtype=int32: estimates made so far


def hutchinson(
    num_probes: int = 1,
    key: int | jax.Array = 0,
    axis_name: Axes = None,
    independent_probes: bool = False,
    hvp: Hvp = "forward_over_reverse",
    unroll: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Hutchinson's estimate of the Hessian diagonal as an optax transformation.

    ``update(updates, state, params, obj_fn=fun)`` returns the estimate of `value_grad_and_hessian_diag` in the
    place of the updates: the protocol of optax's own estimator, so that either serves as the
    `hessian_diagonal_fn` of `adahessian` and of `optax.contrib.sophia`.

    The n-th estimate draws from ``fold_in(key, n)``. So two estimators with the same key draw the same
    probes, and so do the members of an ensemble under `jax.vmap`: give each its own key.

    Args:
      num_probes: number of random sign vectors to average over.
      key: a seed, or a random key, typed or raw.
      axis_name: a mapped axis (or several) over which the parameters are replicated; `obj_fn` is the loss of
        one replica, the estimate is averaged.
      independent_probes: whether each replica draws its own probes instead of all the same; not for an `obj_fn`
        that itself averages over the axis.
      hvp: "forward_over_reverse", or "reverse_over_reverse" for losses that forward mode cannot pass.
      unroll: whether the program holds every probe one after the other, or a loop over them.

    Returns:
      A transformation whose update takes `obj_fn`, a function of `params` alone that returns a real scalar. The
      estimate has the structure, shapes and dtypes of `params`.

    Raises:
      TypeError: for an argument of the wrong type, a key that is none, a state of another transformation, leaves
        that are not real, or an `obj_fn` that is missing, not callable, not scalar, or that forward mode cannot pass.
      ValueError: for `num_probes` below 1, an unknown `hvp`, `independent_probes` without `axis_name`, missing
        `params`, an unbound axis, or parameters that vary over it.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adahessian as oah
      >>> tx = optax.contrib.sophia(0.01, hessian_diagonal_fn=oah.hutchinson(num_probes=4, key=1))
      >>> params = jnp.array([1.0, 2.0])
      >>> _, state = tx.update(params, tx.init(params), params, obj_fn=lambda w: jnp.sum(w**4))
    """
    check_static_integer("num_probes", num_probes, minimum=1)
    check_axis_name("axis_name", axis_name)
    if not isinstance(key, int) or isinstance(key, bool):
        check_key("key", key)
    check_flag("independent_probes", independent_probes)
    check_hvp(hvp)
    check_flag("unroll", unroll)
    if independent_probes and axis_name is None:
        raise ValueError(
            "`independent_probes` (=True) gives every replica over `axis_name` its own probes, but `axis_name` (=None) "
            "names none. Pass the axis, or leave `independent_probes` out."
        )

    def init_fn(params: optax.Params) -> HutchinsonState:
        del params
        return HutchinsonState(draws=jnp.zeros([], jnp.int32))

    def update_fn(
        updates: optax.Updates,
        state: HutchinsonState,
        params: optax.Params | None = None,
        *,
        obj_fn: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, HutchinsonState]:
        del updates, extra_args
        check_state(state, HutchinsonState)
        if params is None:
            raise ValueError("`params` (=None) must be given: the Hessian is taken at them. Pass them to `update`.")
        check_callable("obj_fn", obj_fn, "obj_fn=lambda p: loss_fn(p, batch)")
        # A key made here and not above: importing or building an optimizer must not start JAX's runtime.
        base_key = jax.random.key(key) if isinstance(key, int) else key
        draw_key = jax.random.fold_in(base_key, state.draws)
        if independent_probes:
            check_axis(axis_name)
            draw_key = jax.random.fold_in(draw_key, jax.lax.axis_index(axis_name))
        loss = checked_loss("obj_fn", obj_fn)
        _, _, diag = estimated_diag(loss, draw_key, params, num_probes, axis_name, hvp, unroll)
        return mean_over_replicas(diag, axis_name), HutchinsonState(draws=optax.safe_increment(state.draws))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
