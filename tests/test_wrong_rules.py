"""Rules that are nearly right, patched into the library: each makes a golden test fail."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.replay import check, check_own_probes

from optax_adahessian import _adahessian, _estimate, _products, _spatial_average
from optax_adahessian._spatial_average import block_mean

# Recorded runs that tell the rules apart: (case, way, layout).
MLP = ("a_mlp_k1_wd5e-4", "optimizer", "recorded")
MLP_HALF_POWER = ("a_mlp_k05_wd0", "optimizer", "recorded")
CONV = ("a_conv_k1", "optimizer", "converted")
DENSE = ("b_mlp_default", "optimizer", "recorded")
END_TO_END = ("a_mlp_k1_wd0", "end to end", "recorded")


def replacing(module, name, wrong):
    """A patch of a function; `wrong` gets the right one before the arguments."""
    return lambda monkeypatch: monkeypatch.setattr(module, name, functools.partial(wrong, getattr(module, name)))


def weight(decay, wrong):
    """A patch of ``1 - decay**steps``, of one of the two decays."""
    change = lambda right, d, *rest: wrong(right, d, *rest) if d == decay else right(d, *rest)
    return replacing(_adahessian, "_ema_weight", change)


def curvature(wrong):
    """A patch of the block mean of |h|."""
    return replacing(_adahessian, "block_mean", lambda right, x, block: wrong(x, block))


def layout(wrong):
    """A patch of the layout of kernels: whether inputs come first, or what is taken for it."""
    return replacing(_spatial_average, "_inputs_come_first", lambda right, kernel: wrong(right(kernel)))


def exchanged(right, *, b1, b2, **arguments):
    return right(b1=b2, b2=b1, **arguments)


def coupled_decay(right, scale, decay, rate):
    """Decay as a part of the gradient."""
    tx = right(scale, rate)

    def update(updates, state, params, **extra_args):
        return tx.update(decay.update(updates, decay.init(params), params)[0], state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def late_rate(right, schedule):
    return right(lambda count: schedule(jnp.maximum(count - 1, 0)))


def each_leaf_alone(right, loss, params, vector, hvp, more_follow=False):
    """A Hessian without the blocks that couple two leaves."""
    value, grads, *_ = right(loss, params, vector, hvp)
    leaves, structure = jax.tree.flatten(vector)
    alone = [structure.unflatten([v * (i == j) for j, v in enumerate(leaves)]) for i in range(len(leaves))]
    products = [jax.tree.leaves(right(loss, params, v, hvp)[2])[i] for i, v in enumerate(alone)]
    return value, grads, structure.unflatten(products), None


RULES = {
    "mu not bias-corrected": (weight(0.9, lambda right, *rest: jnp.ones_like(right(*rest))), MLP),
    "nu corrected by the root": (weight(0.999, lambda right, *rest: right(*rest) ** 0.5), MLP),
    "b2 in single precision": (weight(0.999, lambda right, d, *rest: right(float(np.float32(d)), *rest)), MLP),
    "the power on nu instead of its root": (
        replacing(_adahessian, "_denominator", lambda right, nu, k, eps: right(nu, 2 * k, eps)), MLP_HALF_POWER
    ),
    "eps inside of the power": (
        replacing(_adahessian, "_denominator", lambda right, nu, k, eps: (right(nu, 1, 0) + eps) ** k), MLP_HALF_POWER
    ),
    "b1 and b2 exchanged": (replacing(_adahessian, "scale_by_adahessian", exchanged), MLP),
    "sum over the block": (curvature(lambda x, block: math.prod(block) * block_mean(x, block)), CONV),
    "mean of the squares": (curvature(lambda x, block: jnp.sqrt(block_mean(jnp.square(x), block))), CONV),
    "the last two axes of HWIO": (layout(lambda inputs_first: False), CONV),
    "outputs averaged instead of inputs": (layout(lambda inputs_first: not inputs_first), DENSE),
    "decay as a part of the gradient": (replacing(_adahessian.optax, "chain", coupled_decay), MLP),
    "the rate one step late": (replacing(_adahessian.optax, "scale_by_learning_rate", late_rate), MLP),
    "the Hessian of each leaf alone": (replacing(_products, "gradient_and_product", each_leaf_alone), END_TO_END),
}  # fmt: skip

OWN_PROBE_RULES = {
    "one key for all leaves": replacing(
        _estimate,
        "rademacher_like",
        lambda _, key, tree: jax.tree.map(lambda leaf: jax.random.rademacher(key, leaf.shape, leaf.dtype), tree),
    ),
    "probes of 0 and 1": replacing(
        _estimate, "rademacher_like", lambda right, *a: jax.tree.map(lambda z: (z + 1) / 2, right(*a))
    ),
    "the Hessian of each leaf alone": replacing(_estimate, "gradient_and_product", each_leaf_alone),
}


@pytest.mark.parametrize("rule", RULES)
def test_replay_fails(rule, monkeypatch):
    patch, (case_id, way, layout) = RULES[rule]
    patch(monkeypatch)
    jax.clear_caches()  # of jitted functions that were traced without the patch
    with pytest.raises(AssertionError, match="beyond"):
        check(case_id, way, layout, "float64")
    jax.clear_caches()  # and of those that were traced with it


@pytest.mark.parametrize("rule", OWN_PROBE_RULES)
def test_own_probes_fail(rule, monkeypatch):
    OWN_PROBE_RULES[rule](monkeypatch)
    with pytest.raises(AssertionError):
        check_own_probes(num_probes=1 if "leaf alone" in rule else 2)
