"""One lowering of a step for cpu, cuda and tpu."""

import jax
import pytest
from helpers import ways
from jax import export
from jax.sharding import AxisType

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(step, tx):
    params, raw_key = ways.initial_params(), jax.random.PRNGKey(0)
    return export.export(jax.jit(step), platforms=PLATFORMS)(params, tx.init(params), raw_key, ways.batch_at(0))


@pytest.mark.parametrize("feed", [ways.fed_by_estimate, ways.fed_by_loss, ways.without_estimate])
def test_a_step_on_one_device(feed):
    tx = ways.optimizer(update_interval=2)
    lowered = exported(feed(tx), tx)
    assert lowered.platforms == PLATFORMS
    assert lowered.nr_devices == 1


@pytest.mark.parametrize("feed", [ways.fed_by_estimate, ways.fed_by_loss])
def test_a_step_over_eight_replicas(feed):
    tx = ways.optimizer(ways.AXIS, update_interval=2)
    step = ways.shard_mapped(feed(tx, axis_name=ways.AXIS), ways.mesh_of(AxisType.Auto))
    lowered = exported(step, tx)
    assert lowered.platforms == PLATFORMS
    assert lowered.nr_devices == 8
