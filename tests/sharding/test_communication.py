"""What a step communicates, counted from the compiled program."""

import jax
import pytest
from helpers import ways
from helpers.feeds import FEEDS, by_diag, by_loss, without_estimate
from helpers.ways import AXIS
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.programs import collectives

PARAMS = ways.initial_params()
BYTES = sum(leaf.nbytes for leaf in jax.tree.leaves(PARAMS))
LOSS_BYTES = 4


def communicated(program):
    """Bytes of each kind of collective operation."""
    return {kind: size for kind, (_, size) in collectives(program.as_text(), jax.device_count()).items() if size}


def program_of(step, mesh, params_spec):
    tx, params = ways.optimizer(), jax.device_put(PARAMS, NamedSharding(mesh, params_spec))
    state = jax.jit(tx.init, out_shardings=ways.state_shardings(tx, params))(params)
    batch = jax.device_put(ways.batch_at(0), NamedSharding(mesh, P(AXIS)))
    shardings = jax.tree.map(lambda a: a.sharding, (params, state))
    jitted = jax.jit(step, out_shardings=(*shardings, NamedSharding(mesh, P())))
    return jitted.lower(params, state, ways.key_at(0), batch).compile()


@pytest.mark.parametrize(("feed", "worth"), [(by_diag, 2), (by_loss, 2), (without_estimate, 1)])
def test_axis_name_reduces_gradient_and_diagonal_and_nothing_else(feed, worth):
    mesh = ways.mesh_of(AxisType.Auto)
    program = program_of(ways.shard_mapped(ways.step_of(feed, ways.optimizer(AXIS), axis_name=AXIS), mesh), mesh, P())
    assert communicated(program) == {"all-reduce": worth * BYTES + LOSS_BYTES}


@pytest.mark.parametrize("feed", FEEDS)
def test_plain_jit_reduces_both_products_of_a_tangent(feed):
    # d(x^T e) = dx^T e + x^T de: two products, each reduced; the first layer has one, its input being constant.
    program = program_of(ways.step_of(feed, ways.optimizer()), ways.mesh_of(AxisType.Auto), P())
    expected = 2 * BYTES + PARAMS["output"].nbytes + LOSS_BYTES
    assert communicated(program) == {"all-reduce": expected}
    assert expected <= 3 * BYTES


def test_plain_jit_reduces_once_what_a_loss_in_shard_map_sums():
    mesh = ways.mesh_of(AxisType.Auto)
    program = program_of(ways.step_of(by_diag, ways.optimizer(), ways.loss_in_shard_map(mesh, P())), mesh, P())
    assert communicated(program) == {"all-reduce": 2 * BYTES + LOSS_BYTES}


@pytest.mark.parametrize(("feed", "worth"), [(by_diag, 2), (without_estimate, 1)])
def test_fully_sharded_parameters_are_gathered_and_so_are_their_tangents(feed, worth):
    mesh = ways.mesh_of(AxisType.Auto)
    step = ways.step_of(feed, ways.optimizer(), ways.loss_in_shard_map(mesh, P(AXIS)))
    total = communicated(program_of(step, mesh, P(AXIS)))
    assert total["all-gather"] == worth * BYTES
    assert total["reduce-scatter"] == worth * BYTES
    blocks = 4 * sum(leaf.shape[1] for leaf in jax.tree.leaves(PARAMS))
    assert total["all-reduce"] == LOSS_BYTES + (blocks if worth == 2 else 0)


def test_plain_jit_gathers_fully_sharded_parameters_once():
    program = program_of(ways.step_of(by_diag, ways.optimizer()), ways.mesh_of(AxisType.Auto), P(AXIS))
    assert communicated(program)["all-gather"] == BYTES
