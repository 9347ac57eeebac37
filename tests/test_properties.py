"""Random trees, blocks and patterns of estimates against the model of the rule in NumPy."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import paper
from hypothesis import strategies as st
from rule_model import assert_memory_follows, assert_within, model_and_bounds
from tree_strategies import DETERMINISTIC, Leaf, average_of, integers, poison, run, trees, typed

HYPER = st.fixed_dictionaries(
    {
        "b1": st.sampled_from([0.0, 0.5, 0.9, 0.999]),
        "b2": st.sampled_from([0.0, 0.5, 0.9, 0.999]),
        "eps": st.sampled_from([2.0**-10, 1.0]),
        "hessian_power": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
NESTEROV = st.booleans()
PATTERNS = st.text("hhn-", min_size=1, max_size=4)  # an estimate, one that is not finite, none


def estimates(pattern, rng, tree):
    """A list of leaves, or None, for every step."""
    for step in pattern:
        leaves = integers(rng, tree)
        if step == "n":
            poison(rng, leaves)
        yield None if step == "-" else leaves


@hypothesis.settings(DETERMINISTIC, max_examples=30)
@hypothesis.given(
    trees(), PATTERNS, HYPER, NESTEROV, st.booleans(), st.sampled_from([None, jnp.bfloat16]), st.integers(0, 9)
)
def test_any_tree_follows_the_rule(tree, pattern, hyper, nesterov, signed, mu_dtype, seed):
    rng = np.random.default_rng(seed)
    grads, diags = [integers(rng, tree) for _ in pattern], list(estimates(pattern, rng, tree))
    average = average_of(tree, signed)
    tx = paper.scale_by_adahessian(**hyper, spatial_average=average, nesterov=nesterov, mu_dtype=mu_dtype)
    with jax.enable_x64(True):
        steps = list(run(tx, tree, grads, diags))
        states = [tx.init(typed(grads[0], tree)), *(state for _, state in steps)]
    memories = [state.memory for state in states[1:]] if nesterov else None
    expected = model_and_bounds(grads, diags, tree, mu_dtype, signed, memories, **hyper)
    for (updates, _), (right, bounds) in zip(steps, expected, strict=True):
        assert_within(updates, right, bounds)
    for before, after, g in zip(states, states[1:], grads, strict=False):
        if nesterov:
            assert_memory_follows(after.memory, before, g, hyper["b1"])
        else:
            assert after.memory == before.memory
    updates, state = steps[-1]
    assert jax.tree.structure(updates) == jax.tree.structure(tree)
    assert [u.dtype for u in jax.tree.leaves(updates)] == [leaf.dtype for leaf in jax.tree.leaves(tree)]
    accepted = [h is not None and all(np.all(np.isfinite(x)) for x in h) for h in diags]
    assert state.rejected == len(pattern) - pattern.count("-") - sum(accepted)
    assert state.last_estimate == max((t for t, ok in enumerate(accepted, start=1) if ok), default=0)


# One tree, whose step is compiled once for all numbers, with either momentum.
TREE = [Leaf((), jnp.float64, ()), Leaf((4, 3), jnp.float64, (2, -1)), None]


@functools.partial(jax.jit, static_argnames="nesterov")
def step(hyper, nesterov, interval, dense_start, grads, curvature, state):
    """One step on the quadratic with `curvature`, which is its own estimate whatever the probe."""
    tx = paper.scale_by_adahessian(
        **hyper,
        nesterov=nesterov,
        update_interval=interval,
        dense_start=dense_start,
        spatial_average=average_of(TREE),
    )

    def obj_fn(params):
        terms = jax.tree.map(lambda c, w: jnp.sum(c * w**2) / 2, curvature, params)
        return sum(jax.tree.leaves(terms))

    params = jax.tree.map(jnp.ones_like, grads)
    return tx.update(grads, state, params, obj_fn=obj_fn)


@hypothesis.settings(DETERMINISTIC, max_examples=40)
@hypothesis.given(
    st.text("hhhn", min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 4), HYPER, NESTEROV, st.integers(0)
)
def test_any_interval_follows_the_rule(pattern, interval, dense_start, hyper, nesterov, seed):
    rng = np.random.default_rng(seed)
    grads, curvatures = [integers(rng, TREE) for _ in pattern], list(estimates(pattern, rng, TREE))
    due = [t < dense_start or t % interval == 0 for t in range(len(pattern))]
    diags = [h if estimated else None for h, estimated in zip(curvatures, due, strict=True)]
    with jax.enable_x64(True):
        state = paper.scale_by_adahessian(spatial_average=average_of(TREE)).init(typed(integers(rng, TREE), TREE))
        steps = []
        for g, c in zip(grads, curvatures, strict=True):
            updates, state = step(hyper, nesterov, interval, dense_start, typed(g, TREE), typed(c, TREE), state)
            steps.append((updates, state))
    memories = [state.memory for _, state in steps] if nesterov else None
    expected = model_and_bounds(grads, diags, TREE, memories=memories, **hyper)
    for (updates, _), (right, bounds) in zip(steps, expected, strict=True):
        assert_within(updates, right, bounds)
    assert state.estimator.draws == sum(due)
