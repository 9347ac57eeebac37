"""Its state in optax's tree functions"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from .parts import on_kernel
from .problem import ONLY_KERNEL, PARAMS, RATE, Rule, adahessian, assert_trains_as, flat
from .row import NO_CELL, Way, row


def trained(tx, way):
    """The state after some steps, and the rule by hand."""
    rule = Rule()
    return assert_trains_as(lambda s: -RATE * rule(s.g, s.h), tx, way), rule


@row("`optax.tree.get` of `mu`, `nu`, `count`")
def get(way: Way) -> None:
    """With a schedule there are two counts, as with `optax.adam`: pass `filtering=`."""
    state, rule = trained(adahessian(RATE), way)
    for name in ("mu", "nu"):
        np.testing.assert_allclose(flat(optax.tree.get(state, name)), getattr(rule, name), rtol=1e-9)
    assert optax.tree.get(state, "count") == rule.t
    scheduled = adahessian(optax.constant_schedule(RATE)).init(PARAMS)
    with pytest.raises(KeyError, match="multiple values"):
        optax.tree.get(scheduled, "count")
    assert optax.tree.get(scheduled, "count", filtering=lambda path, _: "AdaHessian" in str(path)) == 0


@row("`optax.tree.set`")
def set_(way: Way) -> None:
    """Of any field, `count` for example."""
    state, _ = trained(adahessian(RATE), way)
    assert optax.tree.get(optax.tree.set(state, count=jnp.asarray(7)), "count") == 7


@row("`optax.tree.map_params`")
def map_params(way: Way) -> None:
    """It finds `mu` and `nu`, and leaves the scalars alone. With averaging, `nu` has one entry for each block."""
    tx = adahessian(RATE)
    state, rule = trained(tx, way)
    doubled = optax.tree.map_params(tx, lambda leaf: 2 * leaf, state)
    for name in ("mu", "nu"):
        np.testing.assert_allclose(flat(optax.tree.get(doubled, name)), 2 * getattr(rule, name), rtol=1e-9)
    for name in ("count", "nu_weight", "last_estimate"):
        assert optax.tree.get(doubled, name) == optax.tree.get(state, name)


@row("`optax.tree.map_params` with `optax.masked`", obj_fn=NO_CELL)
def map_masked_params(way: Way) -> None:
    """Where a second tree goes along, pass `is_leaf=`, as for any optimizer in `masked`."""
    tx = optax.masked(adahessian(RATE), ONLY_KERNEL)
    state = assert_trains_as(on_kernel(lambda s: s.g), tx, way)
    numbered = optax.tree.map_params(
        tx,
        lambda leaf, number: leaf if isinstance(leaf, optax.MaskedNode) else leaf + number,
        state,
        {"bias": 1, "kernel": 2},
        is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
    )
    np.testing.assert_array_equal(flat(optax.tree.get(numbered, "nu")), flat(optax.tree.get(state, "nu")) + 2)
