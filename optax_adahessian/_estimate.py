"""Hutchinson's estimate of the Hessian diagonal: with value and gradient, and as an Optax transformation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian._errors import as_integer, check_like, check_real_leaves
from optax_adahessian._probes import rademacher_like
from optax_adahessian._products import HvpMode, Loss, checked_loss, gradient_and_product, with_advice
from optax_adahessian._replicas import AxisNames, check_replicated, check_separate_signs, per_replica

_MOST_UNROLLED = 8  # more would let the program grow; a loop makes convolutions slow on the CPU


def value_grad_and_hessian_diag(
    fun: Callable[..., Any],
    has_aux: bool = False,
    num_probes: int = 1,
    axis_name: AxisNames = None,
    hvp: HvpMode = "forward_over_reverse",
) -> Callable[..., tuple[Any, Any, Any]]:
    r"""Value, gradient and Hutchinson's estimate of the Hessian diagonal of `fun`, in one pass.

    .. math::

        h = \frac{1}{n} \sum_{k=1}^{n} z_k \odot H z_k, \qquad z_k \sim \{-1, +1\}^d,
        \qquad \mathrm{E}[h] = \mathrm{diag}(H), \qquad \mathrm{Var}[h_i] = \frac{1}{n} \sum_{j \neq i} H_{ij}^2

    It is unbiased, since :math:`\mathrm{E}[z_i z_j]` is 1 for i = j and 0 otherwise, and exact where H is diagonal
    (Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a matrix", Appl. Numer. Math. 57, 2007). The pass costs
    about three gradients, and two more for each further probe.

    Args:
      fun: the loss, ``fun(params, *args, **kwargs)``, a real scalar.
      has_aux: whether `fun` returns a pair (loss, aux), as in `jax.value_and_grad`.
      num_probes: n. Several share one linearization, held in memory. Up to 8 are unrolled, more run in a loop.
      axis_name: a mapped axis (or several) over which the parameters are replicated and the batch is split. Loss,
        gradient and diagonal are averaged over it. The same key on every replica is one shared probe, which a loss that
        itself averages over the axis needs; ``fold_in(key, jax.lax.axis_index(axis_name))`` draws one on each.
      hvp: "forward_over_reverse", or "reverse_over_reverse" for losses that forward mode cannot differentiate, such
        as a `jax.custom_vjp` whose backward rule calls another one. A note on JAX's error names it if it helps.

    Returns:
      A function ``estimate(key, params, *args, probe_scale=None, **kwargs)``, to be called inside `jax.jit`. It returns
      ``(loss, grads, hessian_diag)``, with `has_aux` ``((loss, aux), grads, hessian_diag)``; aux is each replica's own.
      Gradient and diagonal have the structure, shapes and dtypes of `params`. With ``key=None`` the diagonal is None,
      as in `jax.value_and_grad`. For `probe_scale`, of which only ratios matter, see `optax_adahessian.probe_scale`.

    Example:
      >>> import jax, jax.numpy as jnp, optax_adahessian as oah
      >>> estimate = jax.jit(oah.value_grad_and_hessian_diag(lambda w, x: jnp.sum(x * w**2)))
      >>> _, grads, diag = estimate(jax.random.key(0), jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
      >>> [float(g) for g in grads], [float(h) for h in diag]
      ([6.0, 16.0], [6.0, 8.0])
    """
    num_probes = as_integer("num_probes", num_probes, minimum=1)

    def estimate(
        key: jax.Array | None, params: Any, /, *args: Any, probe_scale: Any = None, **kwargs: Any
    ) -> tuple[Any, Any, Any]:
        loss = checked_loss("fun", fun, has_aux, args, kwargs)
        (value, aux), *rest = _one_replica(loss, key, params, probe_scale, num_probes, axis_name, hvp)
        value, grads, diag = (value, *rest) if axis_name is None else jax.lax.pmean((value, *rest), axis_name)
        return ((value, aux) if has_aux else value), grads, diag

    return estimate


def _one_replica(
    loss: Loss, key: Any, params: Any, probe_scale: Any, num_probes: int, axis_name: AxisNames, hvp: HvpMode
) -> tuple[tuple[Any, Any], Any, Any]:
    """``(value, aux)``, gradient and estimated diagonal of the loss of one replica."""
    check_real_leaves("params", params)
    params = jax.tree.map(jnp.asarray, params)
    own_params = per_replica(params, axis_name)
    check_replicated(params, axis_name)
    if key is None:
        return *jax.value_and_grad(loss, has_aux=True)(own_params), None
    scale = None if probe_scale is None else _fitting_scale(probe_scale, params)

    def probe(i: Any) -> Any:
        signs = rademacher_like(jax.random.fold_in(key, i), params)
        check_separate_signs(params, signs, axis_name)
        return per_replica(signs if scale is None else jax.tree.map(jnp.multiply, signs, scale), axis_name)

    def differentiate(mode: HvpMode, own_params: Any, z: Any) -> tuple[Any, Any, Any]:
        value_and_aux, grads, product, multiply = gradient_and_product(loss, own_params, z, mode, num_probes > 1)

        def add_probe(i: Any, total: Any) -> Any:
            z = probe(i)
            return jax.tree.map(jnp.add, total, _entries(multiply(z), z))

        total = _entries(product, z)  # outside of the loop, which keeps the dtypes and shardings it starts with
        if num_probes <= _MOST_UNROLLED:
            for i in range(1, num_probes):
                total = add_probe(i, total)
        else:
            total = jax.lax.fori_loop(1, num_probes, add_probe, total)
        return value_and_aux, grads, jax.tree.map(lambda t, p: (t / num_probes).astype(p.dtype), total, own_params)

    return with_advice(differentiate, hvp, own_params, probe(0))


def _entries(product: Any, probe: Any) -> Any:
    """``(Hz)_i / z_i``, for signs the same as ``z_i (Hz)_i``, in at least float32, in which probes are summed."""
    wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))  # noqa: E731
    return jax.tree.map(lambda x, z: wide(x) / wide(z), product, probe)


def _fitting_scale(probe_scale: Any, params: Any) -> Any:
    """`probe_scale` in the dtypes of the parameters, and in the range of float16 if one has it."""
    check_real_leaves("probe_scale", probe_scale)
    check_like("probe_scale", probe_scale, params)
    scales = jax.tree.map(jnp.asarray, probe_scale)
    if any(p.dtype == jnp.float16 for p in jax.tree.leaves(params)):
        # Only ratios matter: the geometric middle becomes 1.
        least = jnp.min(jnp.stack([jnp.min(s, initial=jnp.inf) for s in jax.tree.leaves(scales)]))
        most = jnp.max(jnp.stack([jnp.max(s, initial=0) for s in jax.tree.leaves(scales)]))
        low, high = float(jnp.finfo(jnp.float16).tiny), float(jnp.finfo(jnp.float16).max)
        scales = jax.tree.map(lambda s: jnp.clip(s / jnp.sqrt(least) / jnp.sqrt(most), low, high), scales)
    return jax.tree.map(lambda s, p: s.astype(p.dtype), scales, params)


class HutchinsonState(NamedTuple):
    """State of `hutchinson`."""

    draws: jax.Array  # shape=(), dtype=int32: estimates made so far


def hutchinson(
    num_probes: int = 1, key: int | jax.Array = 0, axis_name: AxisNames = None, hvp: HvpMode = "forward_over_reverse"
) -> optax.GradientTransformationExtraArgs:
    """Hutchinson's estimate of the Hessian diagonal as an Optax transformation.

    ``update(updates, state, params, obj_fn=fun)`` returns the estimate instead of the updates, as does Optax's own
    estimator, so that either serves as the `hessian_diagonal_fn` of `adahessian` and of `optax.contrib.sophia`. The
    n-th estimate draws from ``fold_in(key, n)``: under `jax.vmap`, give each member of an ensemble its own key.

    `key` is a seed or a random key. `fun` is a function of `params` alone that returns a real scalar. `update` also
    takes `probe_scale`, which `equilibrate` needs. See `value_grad_and_hessian_diag` for the rest and the errors.
    """
    num_probes = as_integer("num_probes", num_probes, minimum=1)

    def init_fn(params: optax.Params) -> HutchinsonState:
        return HutchinsonState(draws=jnp.zeros([], jnp.int32))

    def update_fn(
        updates: Any, state: Any, params: Any = None, *, obj_fn: Any = None, probe_scale: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, HutchinsonState]:
        loss = checked_loss("obj_fn", obj_fn)
        if params is None:
            raise ValueError("`params` (=None) must be given: the Hessian is taken at them. Pass them to `update`.")
        # A key made here and not above: importing or building an optimizer must not start JAX's runtime.
        own_key = jax.random.key(int(key)) if isinstance(key, (int, np.integer)) else key
        draw_key = jax.random.fold_in(own_key, state.draws)
        _, _, diag = _one_replica(loss, draw_key, params, probe_scale, num_probes, axis_name, hvp)
        diag = diag if axis_name is None else jax.lax.pmean(diag, axis_name)
        return diag, HutchinsonState(draws=optax.safe_increment(state.draws))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def is_due(step: Any, update_interval: Any, dense_start: Any) -> Any:
    """The rule of `refresh_due`, also for traced numbers."""
    return (step < dense_start) | (step % update_interval == 0)


def refresh_due(step: int, update_interval: int, dense_start: int = 10) -> bool:
    """Whether a step, counted from 0, estimates the diagonal: ``step < dense_start or step % update_interval == 0``.

    Without the dense start the whole denominator of the first `update_interval` steps would be one noisy sample.
    As a choice between two programs it needs a concrete `step`: inside `jax.jit` let `update` choose, with `obj_fn`.
    """
    update_interval = as_integer("update_interval", update_interval, minimum=1)
    dense_start = as_integer("dense_start", dense_start, minimum=0)
    return bool(is_due(step, update_interval, dense_start))


def refresh_key(key: jax.Array, step: int, update_interval: int, dense_start: int = 10) -> jax.Array | None:
    """``fold_in(key, step)`` on the steps of `refresh_due`, else None: what ``estimate(key, ...)`` needs.

    `key` is that of the whole run. A jitted step that takes the result compiles twice: with a key, and with None.
    """
    return jax.random.fold_in(key, step) if refresh_due(step, update_interval, dense_start) else None
