"""The state: its fields, and what earlier versions stored."""

import chex
import jax
import jax.numpy as jnp
import pytest
from helpers import stored_state

import optax_adahessian as oah


def fields(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [(jax.tree_util.keystr(path), f"{leaf.dtype}{leaf.shape}") for path, leaf in leaves]


def test_the_fields_of_the_state():
    """Names, order, shapes and dtypes, on which stored states depend."""
    params = {"half": jnp.ones(2, jnp.bfloat16), "kernel": jnp.ones((2, 4))}
    state = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.rows("HWIO")).init(params)
    assert fields(state) == [
        (".count", "int32()"),
        (".last_estimate", "int32()"),
        (".mu['half']", "bfloat16(2,)"),
        (".mu['kernel']", "float32(2, 4)"),
        (".nu['half']", "float32(2,)"),
        (".nu['kernel']", "float32(1, 4)"),
        (".estimator.draws", "int32()"),
    ]
    assert fields(oah.adaptive_nesterov().init(params)) == [
        (".count", "int32()"),
        (".memory", "float32()"),
        (".ema['half']", "bfloat16(2,)"),
        (".ema['kernel']", "float32(2, 4)"),
    ]


@pytest.mark.parametrize("file", sorted(stored_state.FILES.glob("*.npz")), ids=lambda file: file.stem)
def test_a_state_that_an_earlier_version_wrote_goes_on(file):
    like = stored_state.initial()
    stopped, ended = (stored_state.read(file, name, like) for name in ("stopped", "ended"))
    chex.assert_trees_all_equal_shapes_and_dtypes(stopped, like)
    assert stopped[1].count == stored_state.STOP
    resumed = stored_state.advance(stopped, stored_state.END - stored_state.STOP)
    chex.assert_trees_all_close(resumed, ended, rtol=1e-5)


def test_each_minor_version_leaves_a_state():
    assert (stored_state.FILES / f"{oah.__version__.rsplit('.', 1)[0]}.0.npz").exists()
