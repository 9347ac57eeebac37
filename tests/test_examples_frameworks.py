"""The examples for Flax, Haiku and Equinox: each trains in a few steps, and treats what is not a parameter right."""

import math
import re

import jax
import numpy as np
import pytest
from flax import nnx

from examples import equinox_frozen, flax_linen, flax_nnx, haiku_batch_norm

GUESSING = math.log(10)  # the cross-entropy of ten classes held equally likely
STEPS = 12


@pytest.fixture
def run(capsys):
    def run(example):
        returned = example.main(["--steps", str(STEPS)])
        line = capsys.readouterr().out.splitlines()[-1]
        accuracy, loss = map(float, re.fullmatch(r"test accuracy (.*)%, test loss (.*)", line).groups())
        assert accuracy > 70
        assert loss < GUESSING / 2
        return returned

    return run


@pytest.mark.long
def test_flax_linen_hands_the_loss_to_the_optimizer(run):
    state = run(flax_linen)
    scale_state = state.opt_state[0]
    assert int(state.step) == int(scale_state.count) == STEPS
    assert int(scale_state.estimator.draws) == 10 + 1  # the dense start, and the step with number 10
    assert scale_state.nu["attention"]["out"]["kernel"].shape == (1, 1, 32)


@pytest.mark.long
def test_flax_nnx_draws_a_new_dropout_mask_at_each_step(run):
    model = run(flax_nnx)
    (count,) = jax.tree.leaves(nnx.state(model, nnx.RngCount))
    assert int(count) == STEPS


@pytest.mark.long
def test_haiku_carries_the_statistics_through_all_steps(run):
    statistics = run(haiku_batch_norm)
    for name in ("batch_norm", "batch_norm_1"):
        assert int(statistics[f"{name}/~/mean_ema"]["counter"]) == STEPS


@pytest.mark.long
def test_equinox_leaves_the_frozen_layer_alone(run):
    model = run(equinox_frozen)
    before = equinox_frozen.ConvNet(jax.random.key(0))
    np.testing.assert_array_equal(model.filters.weight, before.filters.weight)
    assert np.any(np.asarray(model.conv.weight != before.conv.weight))


def test_the_fixed_filters_are_an_orthonormal_basis():
    filters = equinox_frozen.cosine_filters().reshape(9, 9)
    np.testing.assert_allclose(filters @ filters.T, np.eye(9), atol=1e-6)
