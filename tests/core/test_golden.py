"""Every recorded run of the PyTorch originals, replayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.golden import CASES, LAYOUTS, block, converts, recorded, spatial_average
from helpers.replay import check

import optax_adahessian as oah

REPLAYS = [(case_id, layout) for case_id in CASES for layout in LAYOUTS if layout == "recorded" or converts(case_id)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("way", ["optimizer", "end to end"])
@pytest.mark.parametrize(("case_id", "layout"), REPLAYS)
def test_replay_agrees(case_id, way, layout, dtype):
    check(case_id, way, layout, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case_id", CASES)
def test_the_average_is_the_recorded_one(case_id, layout):
    average = spatial_average(case_id, layout)
    params = {name: p[0] for name, p in recorded(case_id, "p", layout).items()}
    blocks = jax.tree_util.tree_map_with_path(average.block_shape, params)
    assert blocks == {param["name"]: block(param, layout) for param in CASES[case_id]["params"]}


def test_one_weight_per_estimate_beside_repeated_estimates():
    """What docs/fidelity.md says of estimates every u steps: davda54's rule arrives u - 1 steps later where ours is."""
    b2, interval, estimates = 0.9, 3, jnp.array([2.0, 5.0, 3.0, 7.0])
    tx = oah.scale_by_adahessian(b1=0, b2=b2, eps=0.0)
    params, update = jnp.zeros(()), jax.jit(tx.update)
    ours = repeated = tx.init(params)
    for k, h in enumerate(estimates):
        for t in range(interval):
            _, ours = update(params, ours, params, hessian_diag=None if t else h)
            _, repeated = update(params, repeated, params, hessian_diag=h)
        # Ours gives the first estimate the weight of the one step that has passed, the repeated ones that of u steps.
        first = b2 ** (k * interval) * ((1 - b2**interval) - (1 - b2)) * estimates[0] ** 2
        weights = 1 - b2 ** (k * interval + 1), 1 - b2 ** ((k + 1) * interval)
        np.testing.assert_allclose(weights[1] * repeated.nu, weights[0] * ours.nu + first, rtol=1e-5)
