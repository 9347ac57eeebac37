"""Where the curvature of a step comes from: an estimate made outside, the loss, or nowhere; and the errors about it."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._errors import as_integer, check_like, check_real_leaves, check_type
from optax_adahessian._estimate import hutchinson, is_due
from optax_adahessian._state import ScaleByAdaHessianState, is_masked, probe_scale

_ONE_FEED = (
    "`update` needs one of them: `obj_fn=lambda p: loss_fn(p, batch)`, or `hessian_diag=hessian_diag` from "
    "`loss, grads, hessian_diag = value_grad_and_hessian_diag(loss_fn)(key, params, batch)`."
)


class Feed(NamedTuple):
    """What a rule asks for curvature."""

    init: Callable[[Any], Any]  # params -> state of the estimator
    fold_estimate: Callable[..., ScaleByAdaHessianState]  # (fold, state, updates, params, extra_args) -> state


def feed(
    hessian_diagonal_fn: optax.GradientTransformation | None = None,
    update_interval: Any = 1,
    dense_start: Any = 10,
    equilibrate: bool = False,
) -> Feed:
    """A feed of `hessian_diag`, or of `obj_fn` by an estimator on the steps of `update_interval` and `dense_start`."""
    update_interval = as_integer("update_interval", update_interval, minimum=1)
    dense_start = as_integer("dense_start", dense_start, minimum=0)
    if hessian_diagonal_fn is not None:
        check_type("hessian_diagonal_fn", hessian_diagonal_fn, optax.GradientTransformation, "hutchinson(num_probes=4)")
    estimator = hutchinson() if hessian_diagonal_fn is None else optax.with_extra_args_support(hessian_diagonal_fn)
    if equilibrate and "probe_scale" not in inspect.signature(estimator.update).parameters:
        raise ValueError("`equilibrate=True` needs an estimator whose `update` takes `probe_scale`, like `hutchinson`.")

    def fold_estimate(fold: Any, state: Any, updates: Any, params: Any, extra_args: dict[str, Any]) -> Any:
        """`state` with an estimate taken in by ``fold(state, diagonal)``, if there is one on this step."""
        extra_args = _one_feed(extra_args, params, needs_one=hessian_diagonal_fn is None)
        if "hessian_diag" in extra_args:
            diag = extra_args["hessian_diag"]
            if equilibrate and diag is not None:
                raise ValueError(
                    "`equilibrate=True` scales the probes of `obj_fn`, and cannot scale those of a `hessian_diag`. "
                    "Leave it off, and pass `probe_scale=probe_scale(state, params)` to the estimate."
                )
            return state if diag is None else fold(state, _matching_diag(diag, updates))

        def estimate(state: ScaleByAdaHessianState) -> ScaleByAdaHessianState:
            scale = {"probe_scale": probe_scale(state, params)} if equilibrate else {}
            diag, estimator_state = estimator.update(updates, state.estimator, params, **(extra_args | scale))
            return fold(state._replace(estimator=estimator_state), _matching_diag(diag, updates))

        # The Python int 1 needs no `lax.cond`, in which convolutions run 10 to 30 times slower on the CPU.
        if isinstance(update_interval, int) and update_interval == 1:
            return estimate(state)
        due = is_due(state.count, update_interval, dense_start)
        if isinstance(due, jax.core.Tracer):
            return jax.lax.cond(due, estimate, lambda state: state, state)
        return estimate(state) if due else state

    return Feed(estimator.init, fold_estimate)


def _one_feed(extra_args: dict[str, Any], params: Any, needs_one: bool) -> dict[str, Any]:
    """`extra_args` with exactly one of `obj_fn` and `hessian_diag`; raises if that cannot be."""
    given = {name: value for name, value in extra_args.items() if name != "obj_fn" or value is not None}
    feeds = given.keys() & {"obj_fn", "hessian_diag"}
    if len(feeds) == 2:
        raise ValueError(f"`obj_fn` and `hessian_diag` were both given. {_ONE_FEED}")
    if not feeds and given.get("value_fn") is not None:
        given["obj_fn"] = given["value_fn"]  # its name in Optax's line searches
    elif not feeds and needs_one:
        raise ValueError(
            f"Neither `obj_fn` nor `hessian_diag` was given. {_ONE_FEED} Flax's `TrainState.apply_gradients`, NumPyro "
            "and some wrappers of Optax do not pass them on: see docs/frameworks and docs/compatibility.md."
        )
    if "obj_fn" in given and any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
        raise ValueError(
            "`obj_fn` cannot be computed where `optax.masked` or `optax.partition` hide a part of the parameters. Make "
            "the estimate outside, for all of them, and pass `hessian_diag=` to the outer `update`, which cuts it."
        )
    return given


def _matching_diag(hessian_diag: Any, updates: Any) -> Any:
    """`hessian_diag` on the leaves that `updates` has; raises if structure, shape or dtype do not fit."""
    with contextlib.suppress(ValueError):  # `check_like` names the leaf that differs
        hessian_diag = jax.tree.map(lambda u, h: u if is_masked(u) else h, updates, hessian_diag, is_leaf=is_masked)
    check_real_leaves("hessian_diag", hessian_diag)
    check_like("hessian_diag", hessian_diag, updates)
    return jax.tree.map(jnp.asarray, hessian_diag)
