"""The rule of the transformation, and the two ways to feed it."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.model import numpy_rule

import optax_adahessian as oah


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_steps_before_a_first_estimate_are_exactly_zero_and_keep_the_momentum(eps):
    grads, diag = np.random.default_rng(0).normal(size=(3, 4)), np.arange(1.0, 5.0)
    hyper = {"b1": 0.8, "b2": 0.95, "eps": eps, "hessian_power": 0.7}
    tx = oah.scale_by_adahessian(**hyper)
    state = tx.init(jnp.zeros(4))
    expected = numpy_rule([[g] for g in grads], [None, None, [diag]], [(1,)], **hyper)
    for g, h, (right,) in zip(grads, (None, None, diag), expected, strict=True):
        updates, state = tx.update(jnp.asarray(g), state, hessian_diag=h)
        np.testing.assert_allclose(updates, right if h is not None else 0, rtol=1e-5)
    assert state.last_estimate == 3


def test_the_defaults_are_those_of_the_paper_in_both_functions():
    def defaults(fun):
        found = {name: parameter.default for name, parameter in inspect.signature(fun).parameters.items()}
        return found | {"spatial_average": found["spatial_average"].name}

    scaling = {"b1": 0.9, "b2": 0.999, "eps": 1e-4, "hessian_power": 1.0, "mu_dtype": None}
    scaling |= {"spatial_average": "none", "update_interval": 1, "dense_start": 10, "hessian_diagonal_fn": None}
    assert defaults(oah.scale_by_adahessian) == scaling
    assert defaults(oah.adahessian) == scaling | {"learning_rate": 0.15, "weight_decay": 0.0, "mask": None}
    one_shared_probe = (1, None, "forward_over_reverse")
    for fun in (oah.hutchinson, oah.value_grad_and_hessian_diag):
        found = inspect.signature(fun).parameters
        assert tuple(found[name].default for name in ("num_probes", "axis_name", "hvp")) == one_shared_probe


def test_weight_decay_is_decoupled_and_continues_where_no_step_is_made():
    params = jnp.array([2.0, -4.0])
    tx = oah.adahessian(optax.piecewise_constant_schedule(0.5, {1: 0.5}), weight_decay=0.125)
    for diag in (None, params * jnp.nan):
        state = tx.init(params)
        for rate in (0.5, 0.25):
            updates, state = tx.update(jnp.ones(2), state, params, hessian_diag=diag)
            np.testing.assert_array_equal(updates, -rate * 0.125 * params)


def tree_of_every_kind():
    arrays = {"kernel": jnp.ones((3, 3, 2, 4)), "half": jnp.ones((4, 2), jnp.bfloat16)}
    return arrays | {"none": None, "scalar": jnp.ones([]), "empty": jnp.ones((0, 3))}


@pytest.mark.parametrize(("b1", "mu_dtype"), [(0.9, None), (0.9, jnp.bfloat16), (0, None)])
@pytest.mark.parametrize("grad_dtype", [None, jnp.float32])
def test_update_keeps_shapes_and_dtypes_of_the_state_and_dtypes_of_the_gradients(b1, mu_dtype, grad_dtype):
    params = tree_of_every_kind()
    grads = jax.tree.map(lambda p: jnp.ones_like(p, dtype=grad_dtype), params)
    tx = oah.scale_by_adahessian(b1=b1, spatial_average=oah.SpatialAverage.rows("HWIO"), mu_dtype=mu_dtype)
    state = tx.init(params)
    for diag in (params, None):
        updates, new_state = tx.update(grads, state, params, hessian_diag=diag)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)
        chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
        state = new_state
    assert state.nu["kernel"].shape == (1, 1, 2, 4)
    assert state.nu["half"].dtype == jnp.float32
    if b1 == 0:
        assert state.mu is None
    else:
        assert (state.mu["half"].dtype, state.mu["kernel"].dtype) == (jnp.bfloat16, mu_dtype or jnp.float32)


def coupled(params, x):
    hidden = jnp.tanh(x @ params["w"])
    return jnp.mean((hidden @ params["v"] - jnp.sum(x, axis=1)) ** 2)


COUPLED_PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "v": jnp.linspace(0.5, 1, 4)}
BATCHES = jax.random.normal(jax.random.key(0), (25, 8, 3))


def step_with_obj_fn(tx, name="obj_fn"):
    def step(carry, x):
        params, state = carry
        loss, grads = jax.value_and_grad(coupled)(params, x)
        updates, state = tx.update(grads, state, params, **{name: lambda p: coupled(p, x)})
        return (optax.apply_updates(params, updates), state), loss

    return step


@pytest.mark.parametrize("name", ["obj_fn", "value_fn"])
def test_both_ways_of_feeding_agree_step_by_step(name):
    """With hutchinson's n-th draw from outside, on the steps of a schedule."""
    tx = oah.adahessian(0.05, update_interval=4, dense_start=2)
    by_loss, estimate = jax.jit(step_with_obj_fn(tx, name)), oah.value_grad_and_hessian_diag(coupled)
    inside = outside = (COUPLED_PARAMS, tx.init(COUPLED_PARAMS))
    draws = 0
    for t, x in enumerate(BATCHES[:10]):
        inside, _ = by_loss(inside, x)
        params, state = outside
        due = oah.refresh_due(t, 4, dense_start=2)
        _, grads, diag = estimate(jax.random.fold_in(jax.random.key(0), draws) if due else None, params, x)
        draws += due
        updates, state = tx.update(grads, state, params, hessian_diag=diag)
        outside = optax.apply_updates(params, updates), state
        chex.assert_trees_all_close(inside[0], outside[0], rtol=1e-5, atol=1e-6)
    assert inside[1][0].estimator.draws == draws


def test_value_fn_serves_only_where_neither_feed_is_given():
    tx, params = oah.scale_by_adahessian(b1=0, eps=0.0), jnp.ones(2)
    obj_fn, value_fn = (lambda p: jnp.sum(p**2)), (lambda p: 4 * jnp.sum(p**2))
    for feed, curvature in (
        ({"value_fn": value_fn}, 8),
        ({"value_fn": value_fn, "obj_fn": obj_fn}, 2),
        ({"value_fn": value_fn, "hessian_diag": params}, 1),
    ):
        updates, _ = tx.update(params, tx.init(params), params, **feed)
        np.testing.assert_allclose(updates, 1 / curvature)
    updates, _ = tx.update(params, tx.init(params), params, value_fn=value_fn, hessian_diag=None)
    np.testing.assert_array_equal(updates, 0)
