"""Every recorded run of the PyTorch originals, replayed; and our own probes on a recorded problem."""

import jax
import numpy as np
import pytest
from golden_cases import CASES, LAYOUTS, arrays, block, is_flattened, recorded, spatial_average
from golden_probes import check_own_probes
from golden_replay import check, replay


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["optimizer", "end to end"])
@pytest.mark.parametrize("case_id", CASES)
def test_replay_agrees(case_id, way, layout, dtype):
    check(case_id, way, layout, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case_id", CASES)
def test_the_average_is_the_recorded_one(case_id, layout):
    average = spatial_average(case_id, layout)
    params = {name: p[0] for name, p in recorded(case_id, "p", layout).items()}
    blocks = jax.tree_util.tree_map_with_path(average.block_shape, params)
    assert blocks == {param["name"]: block(param, layout) for param in CASES[case_id]["params"]}


def test_presets_express_all_but_explicit_sizes():
    custom = {case_id for case_id in CASES if spatial_average(case_id, "recorded").name.startswith("custom")}
    assert custom == {
        "b_ranks_blocks_2_3_4_9",
        "b_ranks_blocks_cross_rows",
        "b_mlp_block3",
        "b_mlp_1d_block",
        "c_mlp_block3",
        "c_mlp_block3_k05",
        "d_ranks_0to5_u2_n2_avg1_k1",
    }
    flattened = {case_id for case_id in CASES if any(map(is_flattened, CASES[case_id]["params"]))}
    assert flattened == {"b_ranks_blocks_cross_rows", "b_mlp_block3", "c_mlp_block3", "c_mlp_block3_k05"}


def test_two_dimensional_paths():
    """The four commands of the analysis program's README, through all three decimals it prints and six more."""
    commands = [case_id for case_id, case in CASES.items() if case["argv"]]
    assert len(commands) == 4
    with jax.enable_x64(True):
        for case_id in commands:
            path = replay(case_id, "end to end", "recorded", "float64").params["v"]
            np.testing.assert_allclose(path, arrays(case_id)["p/v"][1:], rtol=0, atol=1e-9)


def test_own_probes_estimate_the_diagonal():
    check_own_probes()
