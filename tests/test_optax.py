"""At home in optax: injected hyper-parameters, parts of the parameters, estimators of either library."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah

PARAMS = {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.linspace(0.5, 1, 4)}
X = jax.random.normal(jax.random.key(0), (8, 3))


def loss_fn(params):
    return jnp.mean((jnp.tanh(X @ params["kernel"]) @ params["bias"] - jnp.sum(X, axis=1)) ** 2)


def losses(tx, steps=8, feed=lambda params: {"obj_fn": loss_fn}):
    """The losses of a jitted loop, and the last parameters and state."""

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, **feed(params))
        return optax.apply_updates(params, updates), state, value

    params, state, values = PARAMS, tx.init(PARAMS), []
    for _ in range(steps):
        params, state, value = step(params, state)
        values.append(float(value))
    assert step._cache_size() == 1
    return values, params, state


def estimated_diag(params):
    return {"hessian_diag": oah.value_grad_and_hessian_diag(loss_fn)(jax.random.key(0), params)[2]}


SCHEDULE = optax.cosine_decay_schedule(0.1, 8)


@pytest.mark.parametrize(
    ("options", "wrap"),
    [
        ({"learning_rate": 0.1}, optax.inject_hyperparams),
        ({"learning_rate": SCHEDULE}, optax.inject_hyperparams),
        ({"learning_rate": 0.1, "update_interval": 3, "dense_start": 2}, optax.inject_hyperparams),
        ({"learning_rate": 0.1, "hessian_power": 0.5, "weight_decay": 0.1}, optax.inject_hyperparams),
        (
            {"learning_rate": 0.1, "update_interval": 3, "dense_start": 2, "mask": lambda p: True},
            lambda f: optax.inject_hyperparams(f, static_args=("update_interval", "dense_start", "mask")),
        ),
    ],
)
def test_injected_hyperparameters_train_as_plain_ones(options, wrap):
    plain, params, _ = losses(oah.adahessian(**options))
    injected, same_params, state = losses(wrap(oah.adahessian)(**options))
    np.testing.assert_allclose(injected, plain, rtol=1e-5)
    chex.assert_trees_all_close(same_params, params, rtol=1e-4, atol=1e-6)
    assert "learning_rate" in state.hyperparams


def test_an_injected_hyperparameter_can_be_changed_between_steps():
    tx = optax.inject_hyperparams(oah.adahessian)(learning_rate=0.1)
    state, grads = tx.init(PARAMS), jax.grad(loss_fn)(PARAMS)
    full, _ = tx.update(grads, state, PARAMS, obj_fn=loss_fn)
    state.hyperparams["learning_rate"] = jnp.asarray(0.05)
    half, _ = tx.update(grads, state, PARAMS, obj_fn=loss_fn)
    chex.assert_trees_all_close(jax.tree.map(lambda u: u / 2, full), half, rtol=1e-6)


def only_kernel(params):
    return {"kernel": True, "bias": False}


@pytest.mark.parametrize("compatible", [False, True])
def test_masked_prunes_a_whole_diagonal(compatible):
    tx = optax.masked(oah.adahessian(0.1), only_kernel, mask_compatible_extra_args=compatible)
    grads, diag = jax.grad(loss_fn)(PARAMS), estimated_diag(PARAMS)
    updates, state = jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS, **diag)
    alone = oah.adahessian(0.1)
    kernel = {"kernel": PARAMS["kernel"]}
    expected, _ = alone.update(
        {"kernel": grads["kernel"]}, alone.init(kernel), kernel, hessian_diag={"kernel": diag["hessian_diag"]["kernel"]}
    )
    chex.assert_trees_all_close(updates["kernel"], expected["kernel"])
    chex.assert_trees_all_equal(updates["bias"], grads["bias"])
    assert len(jax.tree.leaves(state.inner_state[0].nu)) == 1


def test_partition_trains_with_a_whole_diagonal():
    parts = {"second": oah.adahessian(0.1), "first": optax.adam(0.01)}
    tx = optax.partition(parts, {"kernel": "second", "bias": "first"})
    values, _, _ = losses(tx, feed=estimated_diag)
    assert values[-1] < values[0]


@pytest.mark.parametrize("wrapped", [optax.masked, optax.partition])
def test_obj_fn_beside_masked_parameters_is_refused(wrapped):
    if wrapped is optax.masked:
        tx = optax.masked(oah.adahessian(0.1), only_kernel)
    else:
        parts = {"second": oah.adahessian(0.1), "first": optax.adam(0.01)}
        tx = optax.partition(parts, {"kernel": "second", "bias": "first"})
    with pytest.raises(ValueError, match="pass `hessian_diag="):
        tx.update(jax.grad(loss_fn)(PARAMS), tx.init(PARAMS), PARAMS, obj_fn=loss_fn)


def test_our_estimator_in_sophia_and_the_one_of_optax_in_ours():
    values, _, _ = losses(optax.contrib.sophia(0.05, hessian_diagonal_fn=oah.hutchinson(num_probes=2)))
    assert values[-1] < values[0]
    foreign = optax.contrib.hutchinson_estimator_diag_hessian(jax.random.PRNGKey(1))
    values, _, _ = losses(oah.adahessian(0.1, hessian_diagonal_fn=foreign, update_interval=2))
    assert values[-1] < values[0]


def test_a_foreign_estimator_gets_all_extra_arguments_and_may_want_no_obj_fn():
    def update_fn(updates, state, params=None, *, curvature, **extra_args):
        del updates, params
        assert extra_args == {"other": 1}
        return curvature, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    tx = oah.scale_by_adahessian(b1=0.0, b2=0.0, eps=0.0, hessian_diagonal_fn=foreign)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(ones, tx.init(PARAMS), curvature=jax.tree.map(lambda p: 4 * p, ones), other=1)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: p / 4, ones))


def test_a_plain_transformation_serves_as_a_foreign_estimator():
    """One without extra arguments: the square of the gradient in the place of the curvature."""
    squares = optax.stateless_with_tree_map(lambda g, p: g**2)
    tx = oah.scale_by_adahessian(b1=0.0, b2=0.0, eps=0.0, hessian_diagonal_fn=squares)
    grads = jax.tree.map(lambda p: 2 * jnp.ones_like(p), PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS, obj_fn=loss_fn)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: jnp.full_like(p, 0.5), PARAMS))


def test_other_extra_arguments_are_ignored():
    tx, grads = oah.adahessian(0.1), jax.grad(loss_fn)(PARAMS)
    diag = estimated_diag(PARAMS)
    plain = tx.update(grads, tx.init(PARAMS), PARAMS, **diag)
    chex.assert_trees_all_equal(tx.update(grads, tx.init(PARAMS), PARAMS, **diag, value=3.0, anything="x"), plain)


def test_the_state_answers_to_the_tree_functions_of_optax():
    tx = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.rows("HWIO"))
    state = tx.init(PARAMS)
    for name in ("count", "mu", "nu"):
        chex.assert_trees_all_equal(optax.tree.get(state, name), getattr(state, name))
    doubled = optax.tree.map_params(tx, lambda leaf: leaf + 1, state)
    chex.assert_trees_all_equal(doubled.mu, jax.tree.map(lambda m: m + 1, state.mu))
    chex.assert_trees_all_equal(doubled.nu, jax.tree.map(lambda v: v + 1, state.nu))
    assert doubled.count == 0
