"""At home in optax: its names, its protocol of extra arguments, and estimators from elsewhere."""

import inspect

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import optax_adahessian as oah

PARAMS = {"kernel": jnp.linspace(-1, 1, 6).reshape(3, 2), "bias": jnp.linspace(0.5, 1, 2)}


def test_hyperparameters_are_named_and_passed_as_those_of_adamw():
    ours, theirs = (inspect.signature(f).parameters for f in (oah.adahessian, optax.adamw))
    shared = [name for name in ours if name in theirs]
    assert shared == ["learning_rate", "b1", "b2", "eps", "weight_decay", "mask", "mu_dtype"]
    assert list(ours)[:4] == list(theirs)[:4]
    # `mu_dtype` is no hyper-parameter, and is passed by keyword alone like the other options.
    assert [name for name in shared if ours[name].kind != theirs[name].kind] == ["mu_dtype"]
    keyword_only = {name for name in ours if ours[name].kind == inspect.Parameter.KEYWORD_ONLY}
    assert keyword_only == {"spatial_average", "update_interval", "dense_start", "hessian_diagonal_fn", "mu_dtype"}


@pytest.mark.parametrize("feed", [{"hessian_diag": PARAMS}, {"obj_fn": lambda params: jnp.sum(params["kernel"] ** 2)}])
def test_other_extra_arguments_are_ignored(feed):
    tx, ones = oah.adahessian(0.1), jax.tree.map(jnp.ones_like, PARAMS)
    plain = tx.update(ones, tx.init(PARAMS), PARAMS, **feed)
    others = {"value": 3.0, "anything": "x", "value_fn": None}
    chex.assert_trees_all_equal(tx.update(ones, tx.init(PARAMS), PARAMS, **feed, **others), plain)


def test_a_foreign_estimator_gets_all_extra_arguments_and_may_need_no_obj_fn():
    def update_fn(updates, state, params=None, *, curvature, **extra_args):
        del updates, params
        assert extra_args == {"other": 1}
        return curvature, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=0.0, hessian_diagonal_fn=foreign)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(ones, tx.init(PARAMS), curvature=jax.tree.map(lambda p: 4 * p, ones), other=1)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: p / 4, ones))


def test_a_plain_transformation_serves_as_a_foreign_estimator():
    """One without extra arguments: the square of the gradient instead of the curvature."""
    squares = optax.stateless_with_tree_map(lambda g, p: g**2)
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=0.0, hessian_diagonal_fn=squares)
    grads = jax.tree.map(lambda p: 2 * jnp.ones_like(p), PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS, obj_fn=lambda params: 0.0)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: jnp.full_like(p, 0.5), PARAMS))
