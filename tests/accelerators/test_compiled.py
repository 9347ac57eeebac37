"""Every public path compiles for the device, with the kernels, the branches and the memory that it should have."""

import os

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import SingleDeviceSharding

import optax_adahessian as oah
from benchmarks import topologies
from benchmarks.cost import accelerators
from benchmarks.cost.optimizers import train_step
from benchmarks.models import convolve, cross_entropy
from benchmarks.programs import compile_program, tree_bytes
from benchmarks.timing import Plan

DEVICE = os.environ["ACCELERATOR"]
PLACE = SingleDeviceSharding(topologies.devices(DEVICE)[0])
KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)  # a raw one
BATCH = jnp.ones((16, 8, 8, 3)), jnp.ones(16, jnp.int32)
ROWS, CONV = oah.SpatialAverage.rows("HWIO"), oah.SpatialAverage.conv("HWIO")


def params_of(dtype=jnp.float32):
    """One large leaf, and small ones."""
    shapes = {"conv": (3, 3, 3, 8), "kernel": (512, 160), "bias": (160,), "output": (160, 10)}
    return {name: jnp.ones(shape, dtype) for name, shape in shapes.items()}


def loss_fn(params, batch):
    images, labels = batch
    x = jnp.tanh(convolve(images.astype(params["conv"].dtype), params["conv"])).reshape(len(images), -1)
    x = jnp.tanh(x @ params["kernel"] + params["bias"][None])
    return cross_entropy((x @ params["output"]).astype(jnp.float32), labels)


def recommended(momentum=True, **options):
    options = {"b1": 0 if momentum else 0.9, "b2": 0.98, "eps": 1e-8, **options}
    return optax.chain(*[oah.adaptive_nesterov()] * momentum, oah.adahessian(0.15, **options), optax.clip(0.01))


def for_units(**options):
    return oah.adahessian(0.7, b2=0.95, eps=0.0, **options)


def compiled(tx, feed, key=KEY, dtype=jnp.float32, **options):
    params = params_of(dtype)
    args = topologies.placed((params, jax.eval_shape(tx.init, params), key, BATCH), PLACE)
    return compile_program(train_step(loss_fn, tx, feed, **options), *args, donate=(0, 1)), args[:2]


@pytest.mark.parametrize(
    ("tx", "options"),
    [
        pytest.param(recommended(), {"key": None}, id="no estimate"),
        pytest.param(recommended(), {}, id="recommended"),
        pytest.param(recommended(), {"dtype": jnp.bfloat16}, id="bfloat16"),
        pytest.param(recommended(spatial_average=ROWS), {"num_probes": 2}, id="rows, 2 probes"),
        pytest.param(recommended(False, spatial_average=CONV), {"num_probes": 9}, id="conv, 9 probes"),
        pytest.param(recommended(False), {"hvp": "reverse_over_reverse"}, id="reverse over reverse"),
        pytest.param(for_units(), {"equilibrate": True}, id="equilibrated"),
        pytest.param(recommended(False), {"feed": "obj_fn"}, id="obj_fn"),
        pytest.param(for_units(equilibrate=True), {"feed": "obj_fn"}, id="obj_fn, equilibrated"),
    ],
)
def test_a_step_has_no_branch_and_reuses_what_is_donated(tx, options):
    program, donated = compiled(tx, **{"feed": "hessian_diag", **options})
    assert " conditional(" not in program.run.as_text()
    assert program.run.memory_analysis().alias_size_in_bytes >= tree_bytes(donated)


def test_an_interval_of_obj_fn_is_one_branch():
    program, _ = compiled(recommended(update_interval=10), "obj_fn", key=None)
    assert program.run.as_text().count(" conditional(") == 1


def test_what_is_counted_stays_within_its_limits():
    rows = [accelerators.SIGNS, *accelerators.LIMITED]
    lines = list(accelerators.measure(["mlp"], rows.__contains__, Plan(), devices=[DEVICE]))
    measured = [target for target in accelerators.targets(lines) if target.measured is not None]
    assert len(measured) == {"v5e": 3, "H100": 5}[DEVICE]
    assert {target.what for target in measured if target.measured > target.limit} <= {accelerators.MISSED}
    assert not any(line["conditionals"] for line in lines)
