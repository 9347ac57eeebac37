"""A run that was stopped and resumed is the run that was not, on as many devices or on fewer."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import ways
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ways import AXIS

ROOT = Path(__file__).parent.parent
STOP, END = 7, 13  # estimates at steps 0, 1 and 10: 7 lies between two


def shardings_on(devices, tx):
    """Fully sharded parameters and their state."""
    mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    params = jax.device_put(ways.initial_params(), NamedSharding(mesh, P(AXIS)))
    return jax.tree.map(lambda p: p.sharding, params), ways.state_shardings(tx, params)


def train(tx, feed, shardings, params, state, steps):
    losses = []
    step = ways.jit(feed(tx), out_shardings=(*shardings, None))
    for i in steps:
        params, state, loss = step(params, state, ways.key_at(i), ways.batch_at(i))
        losses.append(float(loss))
    return params, state, losses


def saved_and_restored(directory, tree, shardings):
    with ocp.CheckpointManager(directory) as manager:
        manager.save(STOP, args=ocp.args.StandardSave(tree))
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings)
    with ocp.CheckpointManager(directory) as manager:
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(like))


@pytest.mark.parametrize("devices", [8, 4, 1])
def test_a_run_saved_on_eight_devices_resumes_between_two_estimates(devices, tmp_path):
    tx, feed = ways.optimizer(update_interval=10, dense_start=2), ways.fed_by_loss
    eight, fewer = shardings_on(8, tx), shardings_on(devices, tx)
    params = jax.device_put(ways.initial_params(), eight[0])
    state = jax.jit(tx.init, out_shardings=eight[1])(params)
    params, state, _ = train(tx, feed, eight, params, state, range(STOP))
    assert int(state[0].last_estimate) == 2

    resumed = saved_and_restored(tmp_path, (params, state), fewer)
    *ended, losses = train(tx, feed, eight, params, state, range(STOP, END))
    *resumed_ended, resumed_losses = train(tx, feed, fewer, *resumed, range(STOP, END))
    assert int(ended[1][0].last_estimate) == 11
    if devices == 8:
        jax.tree.map(np.testing.assert_array_equal, resumed_ended, ended)
    else:
        np.testing.assert_allclose(resumed_losses, losses, rtol=0, atol=1e-5)
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(resumed_ended)} == {devices}


@pytest.mark.long
def test_the_example_is_killed_and_resumes_bit_for_bit():
    command, env = [sys.executable, "examples/checkpoint.py", "--steps", "200"], ways.SUBPROCESS_ENVIRONMENT
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    killed_after = int(re.match(r"killed after the checkpoint of step (\d+), resumed to step 200: bit", done.stdout)[1])
    assert 100 <= killed_after < 200
