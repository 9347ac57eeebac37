"""Every way to spread a step compiles for four chips, and communicates what it should."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah
from benchmarks import topologies
from benchmarks.cost import collectives as cost
from benchmarks.cost.accelerators import many_leaves
from benchmarks.cost.optimizers import adahessian, train_step
from benchmarks.programs import collectives

CHIPS = topologies.devices(os.environ["ACCELERATOR"])
KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)  # a raw one


def mesh_of(axis_type):
    return Mesh(np.array(CHIPS), (cost.AXIS,), axis_types=(axis_type,))


def counted(program):
    return {kind: count for kind, (count, _) in collectives(program.compile().as_text(), 4).items() if count}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_signs_of_sharded_leaves_need_no_communication(axis_type):
    mesh = mesh_of(axis_type)
    leaves = topologies.placed(many_leaves(), NamedSharding(mesh, P(cost.AXIS)))
    shardings = [leaf.sharding for leaf in leaves]
    with jax.set_mesh(mesh):
        program = jax.jit(oah.rademacher_like, out_shardings=shardings).lower(KEY, leaves)
    assert not counted(program)


def test_a_step_communicates_as_on_any_four_devices():
    texts = cost.step_texts(cost.net(), mesh_of(AxisType.Auto))
    found = {name: collectives(texts[name](), 4) for name in texts if "adamw" not in name}
    for name, kinds in found.items():
        assert not kinds["all-to-all"][0], name
        if "fully sharded" not in name:
            assert {kind for kind, (count, _) in kinds.items() if count} == {"all-reduce"}, name


def test_pmap_reduces_and_nothing_else():
    problem, tx = cost.net(), adahessian()
    step = train_step(problem.loss_fn, tx, "hessian_diag", axis_name=cost.AXIS)
    mapped = jax.pmap(step, cost.AXIS, in_axes=(0, 0, None, 0), devices=CHIPS)
    stacked = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct((4, *jnp.shape(x)), x.dtype), tree)
    args = stacked(problem.params), stacked(jax.eval_shape(tx.init, problem.params)), KEY, stacked(problem.batch)
    assert counted(mapped.lower(*args)).keys() == {"all-reduce"}
