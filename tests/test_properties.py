"""Random trees, blocks and patterns of estimates against the model of the rule in NumPy, and what must not matter."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from helpers.model import assert_within, model_and_bounds
from helpers.trees import DETERMINISTIC, Leaf, average_of, integers, poison, run, trees, typed
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
PATTERNS = st.text("hhn-", min_size=1, max_size=4)  # an estimate, one that is not finite, none
EPS = float(jnp.finfo(jnp.float32).eps)


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
    expected = model_and_bounds(grads, diags, tree, mu_dtype, signed, **hyper)
    for (updates, _), (right, bounds) in zip(steps, expected, strict=True):
        assert_within(updates, right, bounds)
    updates, state = steps[-1]
    assert jax.tree.structure(updates) == jax.tree.structure(tree)
    assert [u.dtype for u in jax.tree.leaves(updates)] == [leaf.dtype for leaf in jax.tree.leaves(tree)]
    assert state.rejected == sum(h is not None and not all(np.all(np.isfinite(x)) for x in h) for h in diags)
    assert state.last_estimate == max((t for t, h in enumerate(diags, start=1) if h is not None), default=0)


# One tree, whose step is compiled once for all numbers.
TREE = [Leaf((), jnp.float64, ()), Leaf((4, 3), jnp.float64, (2, -1)), None]


@jax.jit
def step(hyper, interval, dense_start, grads, curvature, state):
    """One step on the quadratic with `curvature`, which is its own estimate whatever the probe."""
    tx = oah.scale_by_adahessian(
        **hyper, update_interval=interval, dense_start=dense_start, spatial_average=average_of(TREE)
    )

    def obj_fn(params):
        terms = jax.tree.map(lambda c, w: jnp.sum(c * w**2) / 2, curvature, params)
        return sum(jax.tree.leaves(terms))

    return tx.update(grads, state, jax.tree.map(jnp.ones_like, grads), obj_fn=obj_fn)


@hypothesis.settings(DETERMINISTIC, max_examples=40)
@hypothesis.given(st.text("hhhn", min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 4), HYPER, st.integers(0))
def test_any_interval_follows_the_rule(pattern, interval, dense_start, hyper, seed):
    rng = np.random.default_rng(seed)
    grads, curvatures = [integers(rng, TREE) for _ in pattern], list(estimates(pattern, rng, TREE))
    due = [t < dense_start or t % interval == 0 for t in range(len(pattern))]
    diags = [h if estimated else None for h, estimated in zip(curvatures, due, strict=True)]
    expected = model_and_bounds(grads, diags, TREE, **hyper)
    with jax.enable_x64(True):
        state = oah.scale_by_adahessian(spatial_average=average_of(TREE)).init(typed(integers(rng, TREE), TREE))
        for g, c, (right, bounds) in zip(grads, curvatures, expected, strict=True):
            updates, state = step(hyper, interval, dense_start, typed(g, TREE), typed(c, TREE), state)
            assert_within(updates, right, bounds)
    assert state.estimator.draws == sum(due)


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
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)
    return updates


@hypothesis.settings(DETERMINISTIC, max_examples=20)
@hypothesis.given(st.integers(-16, 16), st.sampled_from([0.0, 1e-4, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_scale_of_the_loss(exponent, eps, k):
    """Times c, gradient and curvature are; the step, times c^(1 - k) with eps times c^k: for k = 1 it stays."""
    c = 4.0**exponent
    expected = two_steps(1.0, eps, k, PARAMS)
    scaled = two_steps(c, eps * c**k, k, PARAMS)
    # Powers of two round nothing; a power with a traced exponent has a few units in the last place.
    jax.tree.map(lambda s, e: np.testing.assert_allclose(s, c ** (1 - k) * e, rtol=8 * EPS), scaled, expected)
