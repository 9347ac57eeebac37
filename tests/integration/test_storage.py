"""A stored state comes back as it was, and a resumed run is the run that was not stopped, also on fewer devices."""

import functools
import pickle

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from helpers import stored_state, ways
from helpers.feeds import by_loss
from helpers.ways import AXIS
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


def by_numpy(state, folder):
    stored_state.write(folder / "state.npz", state=state)
    return stored_state.read(folder / "state.npz", "state", stored_state.initial()[1])


def by_orbax(state, folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state", stored_state.initial()[1])


WAYS = {
    "pickle": lambda state, folder: pickle.loads(pickle.dumps(state)),
    "device_get": lambda state, folder: jax.device_put(jax.device_get(state)),
    "numpy": by_numpy,
    "flax": lambda state, folder: serialization.from_bytes(stored_state.initial()[1], serialization.to_bytes(state)),
    "orbax": by_orbax,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_state_round_trips(way, tmp_path):
    params, state = stored_state.advance(stored_state.initial(), 3)
    restored = WAYS[way](state, tmp_path)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, state)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal(stored_state.step((params, restored)), stored_state.step((params, state)))


STOP, END = 7, 13  # estimates at steps 0, 1 and 10: 7 lies between two
TX = ways.optimizer(update_interval=10, dense_start=2)


@functools.cache
def shardings_and_step_on(devices):
    """Fully sharded parameters and their state, and one compiled step for both."""
    mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    params = jax.device_put(ways.initial_params(), NamedSharding(mesh, P(AXIS)))
    shardings = jax.tree.map(lambda p: p.sharding, params), ways.state_shardings(TX, params)
    return shardings, jax.jit(ways.step_of(by_loss, TX), out_shardings=(*shardings, None))


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
