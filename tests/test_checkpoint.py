"""A run that was stopped and resumed is the run that was not, on as many devices or on fewer."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import ways
from helpers.ways import AXIS
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

ROOT = Path(__file__).parent.parent
STOP, END = 7, 13  # estimates at steps 0, 1 and 10: 7 lies between two
TX = ways.optimizer(update_interval=10, dense_start=2)


@functools.cache
def shardings_and_step_on(devices):
    """Fully sharded parameters and their state, and one compiled step for both."""
    mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    params = jax.device_put(ways.initial_params(), NamedSharding(mesh, P(AXIS)))
    shardings = jax.tree.map(lambda p: p.sharding, params), ways.state_shardings(TX, params)
    return shardings, jax.jit(ways.fed_by_loss(TX), out_shardings=(*shardings, None))


def train(step, params, state, steps):
    losses = []
    for i in steps:
        params, state, loss = step(params, state, ways.key_at(i), ways.batch_at(i))
        losses.append(float(loss))
    return params, state, losses


@functools.cache
def stopped():
    """A run on eight devices, stopped between two estimates; and how it goes on."""
    shardings, step = shardings_and_step_on(8)
    params = jax.device_put(ways.initial_params(), shardings[0])
    *at_stop, _ = train(step, params, jax.jit(TX.init, out_shardings=shardings[1])(params), range(STOP))
    *ended, losses = train(step, *at_stop, range(STOP, END))
    assert (int(at_stop[1][0].last_estimate), int(ended[1][0].last_estimate)) == (2, 11)
    return tuple(at_stop), ended, losses


@pytest.mark.parametrize("devices", [8, 4, 1])
def test_a_run_saved_on_eight_devices_resumes_between_two_estimates(devices, tmp_path):
    at_stop, ended, losses = stopped()
    shardings, step = shardings_and_step_on(devices)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(STOP, args=ocp.args.StandardSave(at_stop))
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), at_stop, shardings)
    with ocp.CheckpointManager(tmp_path) as manager:
        resumed = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(like))
    *resumed_ended, resumed_losses = train(step, *resumed, range(STOP, END))
    if devices == 8:
        jax.tree.map(np.testing.assert_array_equal, resumed_ended, ended)
    else:
        np.testing.assert_allclose(resumed_losses, losses, rtol=0, atol=1e-5)
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(resumed_ended)} == {devices}


@pytest.mark.long
def test_the_example_is_killed_and_resumes_bit_for_bit():
    command = [sys.executable, "examples/checkpoint.py", "--steps", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    killed_after = int(re.match(r"killed after the checkpoint of step (\d+), resumed to step 200: bit", done.stdout)[1])
    assert 100 <= killed_after < 200
