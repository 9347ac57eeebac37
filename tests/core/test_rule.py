"""The rule: against a model in NumPy on random trees, blocks and patterns of estimates; its defaults, its decay."""

import inspect

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.feeds import by_loss
from helpers.model import Rule, assert_within, model_and_bounds
from helpers.trees import DETERMINISTIC, average_of, integers, poison, run, trees
from hypothesis import strategies as st

import optax_adahessian as oah

HYPER = st.fixed_dictionaries(
    {
        "b1": st.sampled_from([0.0, 0.5, 0.9, 0.999]),
        "b2": st.sampled_from([0.0, 0.5, 0.9, 0.999]),
        "eps": st.sampled_from([2.0**-10, 1.0]),
        "hessian_power": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
PATTERNS = st.text("hhn-", min_size=1, max_size=8)  # an estimate, one that is not finite, none


def estimates(pattern, rng, tree):
    """A list of leaves, or None, for every step."""
    for step in pattern:
        arrays = integers(rng, tree)
        if step == "n":
            poison(rng, arrays)
        yield None if step == "-" else arrays


@hypothesis.settings(DETERMINISTIC, max_examples=30)
@hypothesis.given(trees(), PATTERNS, HYPER, st.booleans(), st.sampled_from([None, jnp.bfloat16]), st.integers(0, 9))
def test_any_tree_follows_the_rule(tree, pattern, hyper, signed, mu_dtype, seed):
    rng = np.random.default_rng(seed)
    grads, diags = [integers(rng, tree) for _ in pattern], list(estimates(pattern, rng, tree))
    tx = oah.scale_by_adahessian(**hyper, spatial_average=average_of(tree, signed), mu_dtype=mu_dtype)
    with jax.enable_x64(True):
        steps = list(run(tx, tree, grads, diags))
    expected = model_and_bounds(grads, diags, tree, mu_dtype, signed=signed, **hyper)
    for (updates, _), (right, bounds) in zip(steps, expected, strict=True):
        assert_within(updates, right, bounds)
    updates, state = steps[-1]
    assert jax.tree.structure(updates) == jax.tree.structure(tree)
    assert [u.dtype for u in jax.tree.leaves(updates)] == [leaf.dtype for leaf in jax.tree.leaves(tree)]
    assert state.rejected == sum(h is not None and not all(np.all(np.isfinite(x)) for x in h) for h in diags)
    assert state.last_estimate == max((t for t, h in enumerate(diags, start=1) if h is not None), default=0)


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_steps_before_a_first_estimate_are_exactly_zero_and_keep_the_momentum(eps):
    grads, diag = np.random.default_rng(0).normal(size=(3, 4)), np.arange(1.0, 5.0)
    hyper = {"b1": 0.8, "b2": 0.95, "eps": eps, "hessian_power": 0.7}
    tx = oah.scale_by_adahessian(**hyper)
    state = tx.init(jnp.zeros(4))
    rule = Rule(**hyper)
    for g, h in zip(grads, (None, None, diag), strict=True):
        updates, state = tx.update(jnp.asarray(g), state, hessian_diag=h)
        np.testing.assert_allclose(updates, rule(g, h), rtol=1e-5)
        assert np.all(updates == 0) == (h is None)
    assert state.last_estimate == 3


PARAMS = {"u": jnp.array([0.5, -1.0]), "w": jnp.array([[1.0, -0.25, 2.0], [0.5, 1.5, -1.0]])}


def coupled(params):
    hidden = jnp.tanh(params["u"] @ params["w"])
    return jnp.sum(hidden**2) + jnp.sum(params["u"] ** 4) * jnp.sum(params["w"] ** 3)


@jax.jit
def two_steps(scale, eps, hessian_power, params):
    """The second update for the loss times `scale`."""
    tx = oah.scale_by_adahessian(eps=eps, hessian_power=hessian_power)
    loss_fn = lambda p: scale * coupled(p)
    state = tx.init(params)
    for shift in (0.0, 0.25):
        params = jax.tree.map(lambda p, shift=shift: p + shift, params)
        updates, state, _ = by_loss(tx, loss_fn, params, state)
    return updates


@hypothesis.settings(DETERMINISTIC, max_examples=20)
@hypothesis.given(st.integers(-16, 16), st.sampled_from([0.0, 1e-4, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_scale_of_the_loss(exponent, eps, k):
    """Times c, gradient and curvature are; the step, times c^(1 - k) with eps times c^k: for k = 1 it stays."""
    c = 4.0**exponent
    expected = two_steps(1.0, eps, k, PARAMS)
    scaled = two_steps(c, eps * c**k, k, PARAMS)
    # Powers of two round nothing; a power with a traced exponent has a few units in the last place.
    rtol = 8 * float(jnp.finfo(jnp.float32).eps)
    chex.assert_trees_all_close(scaled, jax.tree.map(lambda e: c ** (1 - k) * e, expected), rtol=rtol, atol=0)


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
