"""The two ways to feed `update`: a loss to estimate from, or an estimate made outside."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from optax_adahessian._checks import check_like, check_real_leaves

# None is a value of `hessian_diag` ("no new estimate"), so that leaving an argument out needs a mark of its own.
NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "<not given>"})()

_BOTH_WAYS = (
    "Write `tx.update(grads, state, params, obj_fn=lambda p: loss_fn(p, batch))`, or make the estimate outside with "
    "`loss, grads, diag = value_grad_and_hessian_diag(loss_fn)(key, params, batch)` and write "
    "`tx.update(grads, state, params, hessian_diag=diag)` (hessian_diag=None on a step without a new estimate)."
)


def check_feed(obj_fn: Any, hessian_diag: Any, params: Any, needs_obj_fn: bool) -> None:
    """Raises unless exactly one of `obj_fn` and `hessian_diag` is given, and `obj_fn` has whole parameters."""
    if hessian_diag is not NOT_GIVEN:
        if obj_fn is not NOT_GIVEN:
            shown = "hessian_diag=None" if hessian_diag is None else "hessian_diag"
            raise ValueError(f"`obj_fn` and `{shown}` were both given; `update` takes one of them. {_BOTH_WAYS}")
        return
    if obj_fn is NOT_GIVEN:
        if needs_obj_fn:
            raise ValueError(
                f"Neither `obj_fn` nor `hessian_diag` was given; `update` needs one of them. {_BOTH_WAYS} "
                "Some wrappers of optax do not hand extra arguments on: see docs/compatibility.md."
            )
        return
    if any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked))):
        raise ValueError(
            "`obj_fn` was given to an `update` that sees only a part of the parameters, where the loss cannot be "
            "computed (`optax.masked` or `optax.partition` replaced the others by MaskedNode). Make the estimate "
            "outside, for all parameters, and pass `hessian_diag=` to the outer `update`: it is cut to the part."
        )


def matching_diag(hessian_diag: Any, updates: Any) -> Any:
    """`hessian_diag` on the leaves that `updates` has; raises where structure, shape or dtype do not fit."""
    if any(map(_is_masked, jax.tree.leaves(updates, is_leaf=_is_masked))):
        try:
            hessian_diag = jax.tree.map(
                lambda u, h: u if _is_masked(u) else h, updates, hessian_diag, is_leaf=_is_masked
            )
        except ValueError as error:
            raise ValueError(
                "`hessian_diag` does not have the structure of the parameters that `optax.masked` or "
                f"`optax.partition` were given. Pass the whole diagonal. JAX said: {error}"
            ) from error
    if _is_unravelled(hessian_diag, updates):
        raise ValueError(
            "`hessian_diag` is a tree where `update` sees all parameters as one vector, as in `optax.flatten`. "
            "Ravel it, too: pass `hessian_diag=jax.flatten_util.ravel_pytree(hessian_diag)[0]`."
        )
    check_real_leaves("hessian_diag", hessian_diag)
    check_like("hessian_diag", hessian_diag, updates)
    return hessian_diag


def _is_unravelled(tree: Any, vector: Any) -> bool:
    """Whether `vector` is one array of as many numbers as there are in the container `tree`."""
    if hasattr(tree, "shape") or not hasattr(vector, "shape") or vector.ndim != 1:
        return False
    return sum(map(np.size, jax.tree.leaves(tree))) == vector.size


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
