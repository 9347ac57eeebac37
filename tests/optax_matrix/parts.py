"""On a part of the parameters"""

from __future__ import annotations

import numpy as np
import optax

from .problem import IS_KERNEL, ONLY_KERNEL, RATE, Rule, adahessian, assert_trains_as
from .row import Way, refuses, row

PART = refuses("pass `hessian_diag=`")
LABELS = {"bias": "first", "kernel": "second"}


def on_kernel(others):
    """The rule on the kernel, and `others(step)` on the rest."""
    rule = Rule()
    return lambda s: np.where(IS_KERNEL, -RATE * rule(s.g, s.h), others(s))


def check_masked(way: Way, compatible: bool) -> None:
    tx = optax.masked(adahessian(RATE), ONLY_KERNEL, mask_compatible_extra_args=compatible)
    state = assert_trains_as(on_kernel(lambda s: s.g), tx, way)
    assert optax.tree.size(optax.tree.get(state, "nu")) == 6


@row("`optax.masked`", obj_fn=PART)
def masked(way: Way) -> None:
    """Make the estimate outside, for all parameters; it is cut to the part."""
    check_masked(way, compatible=False)


@row("the same, with `mask_compatible_extra_args=True`", obj_fn=PART)
def masked_arguments(way: Way) -> None:
    """Optax cuts the estimate itself."""
    check_masked(way, compatible=True)


def check_partition(way: Way, compatible: bool) -> None:
    parts = {"first": optax.sgd(0.01), "second": adahessian(RATE)}
    tx = optax.partition(parts, LABELS, mask_compatible_extra_args=compatible)
    assert_trains_as(on_kernel(lambda s: -0.01 * s.g), tx, way)


@row("`optax.partition`", obj_fn=PART)
def partition(way: Way) -> None:
    """As for `masked`. The other optimizers ignore the estimate."""
    check_partition(way, compatible=False)


@row("the same, with `mask_compatible_extra_args=True`", obj_fn=PART)
def partition_arguments(way: Way) -> None:
    """Optax cuts the estimate itself."""
    check_partition(way, compatible=True)


@row("`optax.selective_transform`", obj_fn=PART)
def selective(way: Way) -> None:
    """No state for what is frozen. As for `masked`."""
    tx = optax.selective_transform(adahessian(RATE), freeze_mask={"bias": True, "kernel": False})
    assert_trains_as(on_kernel(lambda s: 0.0), tx, way)


@row("`optax.freeze` after it")
def frozen(way: Way) -> None:
    """Takes `obj_fn`, too: the estimate is made for all parameters, and the updates of some are dropped."""
    tx = optax.chain(adahessian(RATE), optax.freeze({"bias": True, "kernel": False}))
    assert_trains_as(on_kernel(lambda s: 0.0), tx, way)
