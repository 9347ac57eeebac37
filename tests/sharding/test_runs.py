"""Every way in which JAX spreads a computation gives the run of one device."""

import jax
import numpy as np
import pytest
from helpers import ways
from helpers.feeds import FEEDS, by_diag, by_loss
from helpers.ways import AXIS
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit


def assert_is_the_run_of_one_device(run, feed):
    alone = ways.one_device(feed)
    assert alone.losses[-1] < 0.5 * alone.losses[0]
    np.testing.assert_allclose(run.losses, alone.losses, rtol=0, atol=1e-5)
    ways.assert_replicas_are_identical((run.params, run.state))


@pytest.mark.parametrize("feed", FEEDS)
def test_pmap(feed):
    run = ways.by_pmap(feed)
    assert_is_the_run_of_one_device(run, feed)
    for stacked in jax.tree.leaves((run.params, run.state)):
        assert len({replica.tobytes() for replica in np.asarray(stacked)}) == 1


@pytest.mark.parametrize(
    ("feed", "axis_type", "check_vma"),
    [
        *[(by_diag, axis_type, check_vma) for axis_type in (AUTO, EXPLICIT) for check_vma in (True, False)],
        *[(by_loss, AUTO, True), (by_loss, EXPLICIT, False)],
    ],
)
def test_shard_map(feed, axis_type, check_vma):
    assert_is_the_run_of_one_device(ways.by_shard_map(feed, axis_type, check_vma), feed)


# Products over a sharded axis need whole parameters on an Explicit mesh.
LOSSES = {AUTO: ways.loss_fn, EXPLICIT: ways.gathered_by_reshard}


@pytest.mark.parametrize(
    ("feed", "axis_type", "params_spec"),
    [
        (by_diag, AUTO, P()),
        (by_diag, EXPLICIT, P()),
        (by_diag, AUTO, P(AXIS)),
        (by_loss, AUTO, P(AXIS)),
        (by_diag, EXPLICIT, P(AXIS)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_jit_with_a_split_batch_and_replicated_or_fully_sharded_parameters(feed, axis_type, params_spec):
    run = ways.by_jit(feed, ways.mesh_of(axis_type), params_spec, LOSSES[axis_type])
    assert_is_the_run_of_one_device(run, feed)


@pytest.mark.parametrize("axis_type", LOSSES)
def test_jit_with_parameters_sharded_over_another_axis_than_the_batch(axis_type):
    mesh = ways.mesh_of(axis_type, **{AXIS: 2, "model": 4})
    run = ways.by_jit(by_diag, mesh, P(None, "model"), LOSSES[axis_type])
    assert_is_the_run_of_one_device(run, by_diag)


@pytest.mark.parametrize(("axis_type", "params_spec"), [(AUTO, P()), (AUTO, P(AXIS)), (EXPLICIT, P(AXIS))], ids=str)
def test_jit_with_the_loss_in_shard_map(axis_type, params_spec):
    mesh = ways.mesh_of(axis_type)
    run = ways.by_jit(by_diag, mesh, params_spec, ways.loss_in_shard_map(mesh, params_spec))
    assert_is_the_run_of_one_device(run, by_diag)
