"""The rule of the transformation, against a model of it in a few lines of float64 NumPy."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper
import pytest
from rule_model import numpy_rule

import optax_adahessian as oah


def one_leaf_rule(grads, diags, **hyper):
    """The model's updates for one parameter vector; a diagonal of None is a step without an estimate."""
    rule = numpy_rule([[g] for g in grads], [h if h is None else [h] for h in diags], [(1,)], **hyper)
    return [update for (update,) in rule]


HYPER = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "hessian_power": 0.7}


def run(tx, grads, diags, dtype=None):
    """The updates of `tx` and its last state; NaN-free pytrees of one leaf."""
    state, updates = tx.init({"w": jnp.zeros_like(grads[0], dtype=dtype)}), []
    for g, h in zip(grads, diags, strict=True):
        diag = None if h is None else {"w": jnp.asarray(h, dtype)}
        u, state = tx.update({"w": jnp.asarray(g, dtype)}, state, hessian_diag=diag)
        updates.append(u["w"])
    return updates, state


def random_run(pattern, seed=0):
    rng = np.random.default_rng(seed)
    grads = [rng.normal(size=4) for _ in pattern]
    diags = [rng.normal(size=4) if estimated else None for estimated in pattern]
    return grads, diags


@pytest.mark.parametrize("hyper", [HYPER, HYPER | {"b1": 0.0, "b2": 0.0}, HYPER | {"hessian_power": 0.0}])
@pytest.mark.parametrize("pattern", ["111111", "100100", "001011", "000000"])
def test_any_pattern_of_estimates_follows_the_rule(pattern, hyper):
    grads, diags = random_run([c == "1" for c in pattern])
    with jax.enable_x64(True):
        updates, state = run(paper.scale_by_adahessian(**hyper), grads, diags, jnp.float64)
        np.testing.assert_allclose(updates, one_leaf_rule(grads, diags, **hyper), rtol=1e-12, atol=0)
        assert state.count == len(pattern)


def test_float32_follows_the_rule_to_its_rounding():
    grads, diags = random_run([t % 7 == 3 for t in range(50)])
    updates, _ = run(paper.scale_by_adahessian(**HYPER), grads, diags, jnp.float32)
    np.testing.assert_allclose(updates, one_leaf_rule(grads, diags, **HYPER), rtol=2e-5, atol=1e-6)


def test_steps_before_a_first_estimate_are_exactly_zero_and_keep_the_momentum():
    grads, diags = random_run([False, False, True])
    for eps in (0.0, 1e-3):
        updates, state = run(paper.scale_by_adahessian(**HYPER | {"eps": eps}), grads, diags)
        assert not np.any(updates[0])
        assert not np.any(updates[1])
        expected = one_leaf_rule(grads, diags, **HYPER | {"eps": eps})
        np.testing.assert_allclose(updates[2], expected[2], rtol=1e-5)
        assert state.last_estimate == 3


def test_a_step_before_a_first_estimate_computes_no_nan():
    """Not even where another value is taken in its place: `jax.debug_nans` would stop there."""
    tx = oah.scale_by_adahessian(eps=0.0)
    with jax.debug_nans(True):
        updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), hessian_diag=None)
    assert not np.any(updates)


def test_newton_step_on_a_diagonal_quadratic_lands_on_the_minimum():
    scales, minimum = jnp.array([0.25, 2.0, 64.0]), jnp.array([3.0, -1.5, 8.0])

    def loss_fn(w):
        return jnp.sum(scales * (w - minimum) ** 2) / 2

    tx = paper.adahessian(learning_rate=1.0, b1=0.0, b2=0.0, eps=0.0)
    params = jnp.zeros(3)
    updates, _ = tx.update(jax.grad(loss_fn)(params), tx.init(params), params, obj_fn=loss_fn)
    chex.assert_trees_all_equal(optax.apply_updates(params, updates), minimum)


def test_the_defaults():
    def defaults(fun):
        return {name: parameter.default for name, parameter in inspect.signature(fun).parameters.items()}

    scaling = {
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-4,
        "hessian_power": 1.0,
        "update_interval": 1,
        "dense_start": 10,
        "spatial_average": oah.SpatialAverage.none(),
        "time_average": "rms",
        "nesterov": False,
        "mu_dtype": None,
        "hessian_diagonal_fn": None,
    }
    assert defaults(oah.scale_by_adahessian) == scaling
    bounded = {"b1": 0.99, "eps": 1e-12, "time_average": "mean", "nesterov": True, "max_step": 0.004}
    assert defaults(oah.adahessian) == scaling | bounded | {"learning_rate": 0.15, "weight_decay": 0.0, "mask": None}


def test_weight_decay_is_decoupled_masked_and_times_the_learning_rate():
    params = {"kernel": jnp.array([2.0, -4.0]), "bias": jnp.array([8.0])}
    zero = jax.tree.map(jnp.zeros_like, params)
    schedule = optax.piecewise_constant_schedule(0.5, {1: 0.5})
    tx = oah.adahessian(schedule, weight_decay=0.1, mask={"kernel": True, "bias": False})
    state = tx.init(params)
    for rate in (0.5, 0.25):
        updates, state = tx.update(zero, state, params, hessian_diag=params)
        expected = {"kernel": -rate * 0.1 * params["kernel"], "bias": zero["bias"]}
        chex.assert_trees_all_close(updates, expected, rtol=1e-6)


def tree_of_every_kind():
    return {
        "kernel": jnp.ones((3, 3, 2, 4)),
        "half": jnp.ones((4, 2), jnp.bfloat16),
        "none": None,
        "scalar": jnp.ones([]),
        "empty": jnp.ones((0, 3)),
    }


@pytest.mark.parametrize("mu_dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("grad_dtype", [None, jnp.float32])
def test_update_keeps_shapes_and_dtypes_of_the_state_and_dtypes_of_the_gradients(mu_dtype, grad_dtype):
    params = tree_of_every_kind()
    grads = jax.tree.map(lambda p: jnp.ones_like(p, dtype=grad_dtype), params)
    tx = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.rows("HWIO"), mu_dtype=mu_dtype)
    state = tx.init(params)
    for diag in (params, None):
        updates, new_state = tx.update(grads, state, params, hessian_diag=diag)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)
        chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
        state = new_state
    assert state.nu["kernel"].shape == (1, 1, 2, 4)
    assert state.nu["half"].dtype == jnp.float32
    assert state.mu["half"].dtype == jnp.bfloat16
    assert state.nu_weight.dtype == jnp.float32


def test_adahessian_promotes_as_adamw_does():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    updates, _ = oah.adahessian(0.1, weight_decay=0.1).update(
        params, oah.adahessian().init(params), params, hessian_diag=params
    )
    reference, _ = optax.adamw(0.1).update(params, optax.adamw(0.1).init(params), params)
    chex.assert_trees_all_equal_dtypes(updates, reference)


def test_squares_of_half_precision_curvature_are_taken_in_float32():
    """1e-4 squared vanishes in float16."""
    params = {"w": jnp.ones(2, jnp.float16)}
    tx = paper.scale_by_adahessian(b1=0.0, eps=0.0)
    diag = jax.tree.map(lambda p: 1e-4 * p, params)
    updates, state = tx.update(diag, tx.init(params), params, hessian_diag=diag)
    np.testing.assert_allclose(state.nu["w"] / state.nu_weight, np.float32(diag["w"]) ** 2, rtol=1e-6)
    np.testing.assert_allclose(updates["w"], 1.0, rtol=1e-3)


def test_init_works_on_abstract_parameters():
    params = tree_of_every_kind()
    abstract = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    tx = paper.adahessian(spatial_average=oah.SpatialAverage.conv("HWIO"))
    chex.assert_trees_all_equal(tx.init(abstract), tx.init(params))
    shapes = jax.eval_shape(tx.init, abstract)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, tx.init(params))


def coupled(params, x):
    hidden = jnp.tanh(x @ params["w"])
    return jnp.mean((hidden @ params["v"] - jnp.sum(x, axis=1)) ** 2)


COUPLED_PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "v": jnp.linspace(0.5, 1, 4)}
BATCHES = jax.random.normal(jax.random.key(0), (25, 8, 3))


def step_with_obj_fn(tx):
    def step(carry, x):
        params, state = carry
        grads = jax.grad(coupled)(params, x)
        updates, state = tx.update(grads, state, params, obj_fn=lambda p: coupled(p, x))
        return (optax.apply_updates(params, updates), state), coupled(params, x)

    return step


def step_with_diag(tx, estimated):
    estimate = oah.value_grad_and_hessian_diag(coupled)

    def step(carry, x):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(0), state[0].count)
        loss, grads, diag = estimate(key, params, x)
        updates, state = tx.update(grads, state, params, hessian_diag=diag if estimated else None)
        return (optax.apply_updates(params, updates), state), loss

    return step


@pytest.mark.parametrize("feed", ["obj_fn", "hessian_diag"])
def test_a_loop_in_scan_equals_the_python_loop(feed):
    tx = paper.adahessian(0.05, update_interval=3, dense_start=4)
    step = step_with_obj_fn(tx) if feed == "obj_fn" else step_with_diag(tx, estimated=True)
    start = COUPLED_PARAMS, tx.init(COUPLED_PARAMS)
    scanned, losses = jax.lax.scan(step, start, BATCHES)
    carry, looped, jitted = start, [], jax.jit(step)
    for x in BATCHES:
        carry, loss = jitted(carry, x)
        looped.append(loss)
    chex.assert_trees_all_close(scanned, carry, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses, looped, rtol=1e-5)
    assert losses[-1] < losses[0]


def test_both_ways_of_feeding_agree_step_by_step():
    """With hutchinson's n-th draw handed in from outside, at every step and on the steps of a schedule."""
    tx = paper.adahessian(0.05, update_interval=4, dense_start=2)
    estimated, plain = jax.jit(step_with_obj_fn(tx)), oah.value_grad_and_hessian_diag(coupled)
    inside = outside = (COUPLED_PARAMS, tx.init(COUPLED_PARAMS))
    draws = 0
    for t, x in enumerate(BATCHES[:10]):
        inside, _ = estimated(inside, x)
        params, state = outside
        _, grads, diag = plain(jax.random.fold_in(jax.random.key(0), draws), params, x)
        due = oah.refresh_due(t, 4, dense_start=2)
        draws += due
        updates, state = tx.update(grads, state, params, hessian_diag=diag if due else None)
        outside = optax.apply_updates(params, updates), state
        chex.assert_trees_all_close(inside[0], outside[0], rtol=1e-5, atol=1e-6)
    assert inside[1][0].estimator.draws == draws


def test_signed_average_takes_the_absolute_value_after_the_block_mean():
    h = {"w": jnp.array([[1.0, -3.0], [4.0, 6.0]])}
    for signed, expected in ((False, [2.0, 5.0]), (True, [1.0, 5.0])):
        average = oah.SpatialAverage.custom(lambda path, leaf: (1, 2), signed=signed)
        tx = paper.scale_by_adahessian(spatial_average=average)
        _, state = tx.update(h, tx.init(h), h, hessian_diag=h)
        np.testing.assert_allclose(jnp.sqrt(state.nu["w"] / state.nu_weight)[:, 0], expected, rtol=1e-6)
