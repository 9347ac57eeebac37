"""Rules that are nearly right, patched into the library: each makes a golden test fail."""

import math

import jax
import jax.numpy as jnp
import pytest
from golden_probes import check_own_probes
from golden_replay import check
from wrong_rules import (
    blocks,
    chain,
    coupled_decay,
    decay_at_the_end,
    direction,
    eps_squared_in,
    gradient_outer_product,
    late_rate,
    own_leaf_only,
    probes,
    replacing,
    root,
    scale,
    signed,
    square,
    stale_is_zero,
    stale_not_folded,
    strided,
    sum_over_probes,
)

from optax_adahessian import _curvature, _moments, _momentum, _presets, _products
from optax_adahessian._blocks import block_mean

# Recorded runs that tell the rules apart: (case, way, layout).
MLP = ("a_mlp_k1_wd5e-4", "optimizer", "recorded")
MLP_HALF_POWER = ("a_mlp_k05_wd0", "optimizer", "recorded")
CONV = ("a_conv_k1", "optimizer", "converted")
CONSTANT_RATE = ("c_mlp_663_block3", "optimizer", "recorded")
DELAYED = ("d_mlp_u3_n1_k05", "optimizer", "recorded")
END_TO_END = ("a_mlp_k1_wd0", "end to end", "recorded")

RULES = {
    "mu not bias-corrected": (direction(lambda g, m, w, r, eps: (m, jnp.ones_like(w), r, eps)), MLP),
    "mu corrected as one step later": (direction(lambda g, m, w, r, eps: (m, 1 - 0.9 * (1 - w), r, eps)), MLP),
    "the gradient instead of mu": (direction(lambda g, m, w, r, eps: (g, jnp.ones_like(w), r, eps)), MLP),
    "mu without the factor 1 - b1": (
        replacing(_momentum, "first_moment", lambda _, g, mu, b1: jax.tree.map(lambda x, m: b1 * m + x, g, mu)),
        MLP,
    ),
    "nu not bias-corrected": (root(lambda v, w, k: jnp.sqrt(v) ** k), MLP),
    "nu corrected outside of the power": (root(lambda v, w, k: jnp.sqrt(v) ** k / jnp.sqrt(w)), MLP_HALF_POWER),
    "the power on nu": (root(lambda v, w, k: (v / w) ** k), MLP_HALF_POWER),
    "the power ignored": (root(lambda v, w, k: jnp.sqrt(v / w)), MLP_HALF_POWER),
    "eps inside of the root": (
        direction(eps_squared_in),
        MLP,
    ),
    "eps inside of the power": (
        direction(eps_squared_in),
        MLP_HALF_POWER,
    ),
    "eps as a floor": (
        direction(lambda g, m, w, r, eps: (m, w, jax.tree.map(lambda x: jnp.maximum(x, eps), r), 0.0)),
        MLP,
    ),
    "weights of the averages in float32": (
        replacing(
            _moments,
            "ema_weight",
            lambda _, decay, steps, dtype: (1 - jnp.float32(decay) ** steps).astype(dtype),
        ),
        MLP,
    ),
    "b1 and b2 exchanged": (
        scale(lambda right, *, b1, b2, **arguments: right(b1=b2, b2=b1, **arguments)),
        MLP,
    ),
    "the curvature not squared": (square(lambda h, block: block_mean(jnp.abs(h), block)), MLP),
    "absolute value after the block mean": (square(lambda h, block: jnp.square(block_mean(h, block))), CONV),
    "mean of the squares": (square(lambda h, block: block_mean(jnp.square(h), block)), CONV),
    "sum over the block": (
        square(lambda h, block: jnp.square(math.prod(block) * block_mean(jnp.abs(h), block))),
        CONV,
    ),
    "strided runs": (square(strided), CONSTANT_RATE),
    "the last two axes of HWIO": (replacing(_presets, "inputs_come_first", lambda right, kernel: False), CONV),
    "kernels averaged over the input channels, too": (
        replacing(_presets, "conv", blocks(lambda shape, block: (*block[:2], -1, 1) if len(shape) == 4 else block)),
        CONV,
    ),
    "dense layers averaged by the image code": (
        replacing(_presets, "conv", blocks(lambda shape, block: (-1, 1) if len(shape) == 2 else block)),
        CONV,
    ),
    "outputs averaged instead of inputs": (
        replacing(_presets, "rows", blocks(lambda shape, block: block[::-1])),
        ("b_mlp_default", "optimizer", "recorded"),
    ),
    "biases averaged": (
        replacing(_presets, "rows", blocks(lambda shape, block: (-1,) if len(shape) == 1 else block)),
        ("b_mlp_default", "optimizer", "recorded"),
    ),
    "decay after the step": (decay_at_the_end(lambda u, p, decay, rate: -rate * decay * (p + u)), CONSTANT_RATE),
    "decay not times the rate": (decay_at_the_end(lambda u, p, decay, rate: -decay * p), MLP),
    "decay times the first rate": (decay_at_the_end(lambda u, p, decay, rate: -rate * decay * p), MLP),
    "decay as a part of the gradient": (chain(coupled_decay), MLP),
    "the rate one step late": (chain(late_rate), MLP),
    "a stale estimate not folded": (scale(stale_not_folded), DELAYED),
    "a stale estimate taken as zero": (scale(stale_is_zero), DELAYED),
    "the Hessian of each leaf alone": (replacing(_products, "gradient_and_product", own_leaf_only), END_TO_END),
    "the outer product of the gradient": (
        replacing(_products, "gradient_and_product", gradient_outer_product),
        END_TO_END,
    ),
}

OWN_PROBE_RULES = {
    "one key for all leaves": probes(lambda key, leaf: jax.random.rademacher(key, leaf.shape, leaf.dtype)),
    "probes of 0 and 1": probes(lambda key, leaf: jax.random.bernoulli(key, shape=leaf.shape).astype(leaf.dtype)),
    "probes that are all -1": probes(lambda key, leaf: -jnp.ones_like(leaf)),
    "absolute value before the mean over probes": signed(lambda z, hz: jnp.abs(z * hz)),
    "sum over the probes": replacing(_curvature, "estimated_diag", sum_over_probes),
    "H z not times z": signed(lambda z, hz: hz),
}


@pytest.mark.parametrize("rule", RULES)
def test_replay_fails(rule, monkeypatch):
    patch, (case_id, way, layout) = RULES[rule]
    patch(monkeypatch)
    with pytest.raises(AssertionError, match="beyond"):
        check(case_id, way, layout, "float64")


@pytest.mark.parametrize("rule", OWN_PROBE_RULES)
def test_own_probes_fail(rule, monkeypatch):
    OWN_PROBE_RULES[rule](monkeypatch)
    with pytest.raises(AssertionError):
        check_own_probes()
