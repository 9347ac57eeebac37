"""What must not change a step: the order of leaves, a cut in two, the scale of the loss, signs, jit and vmap."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from rule_model import assert_within, model_and_bounds
from tree_strategies import DETERMINISTIC, Leaf, average_of, integers, leaves, poison, run, trees, typed

import optax_adahessian as oah

SEEDS = st.integers(0, 2**32 - 1)
SINGLE = (jnp.float32,)
CUTTABLE = leaves(SINGLE, elementwise=True).filter(lambda leaf: leaf.shape and leaf.shape[0] > 1)
EPS = float(jnp.finfo(jnp.float32).eps)


def random_run(seed, tree, steps=3):
    """Gradients and diagonals; the last diagonal has an entry that is not finite."""
    rng = np.random.default_rng(seed)
    grads, diags = ([integers(rng, tree) for _ in range(steps)] for _ in range(2))
    poison(rng, diags[-1])
    return grads, diags


HYPER = {"b1": 0.9, "b2": 0.5, "eps": 1e-3, "hessian_power": 0.5}


def last(tree, grads, diags):
    """The leaves of the last update, one operation at a time."""
    *_, (updates, _) = run(oah.scale_by_adahessian(**HYPER, spatial_average=average_of(tree)), tree, grads, diags)
    return jax.tree.leaves(updates)


def assert_agree(updates, others, bounds):
    """Both may be off by the bound: for another length of an array, an operation is another program."""
    assert_within(updates, others, [2 * bound for bound in bounds])


@hypothesis.settings(DETERMINISTIC, max_examples=4)
@hypothesis.given(st.lists(leaves(SINGLE), min_size=2, max_size=3), st.randoms(use_true_random=False), SEEDS)
def test_the_order_of_leaves(tree, random, seed):
    order = random.sample(range(len(tree)), len(tree))
    grads, diags = random_run(seed, tree)
    updates = last(tree, grads, diags)
    moved = ([[arrays[i] for i in order] for arrays in each] for each in (grads, diags))
    for i, update in zip(order, last([tree[i] for i in order], *moved), strict=True):
        np.testing.assert_array_equal(update, updates[i])


@hypothesis.settings(DETERMINISTIC, max_examples=4)
@hypothesis.given(CUTTABLE, st.data(), SEEDS)
def test_a_leaf_cut_in_two(leaf, data, seed):
    at = data.draw(st.integers(1, leaf.shape[0] - 1))
    parts = [Leaf((n, *leaf.shape[1:]), leaf.dtype, leaf.block) for n in (at, leaf.shape[0] - at)]
    grads, diags = random_run(seed, [leaf])
    (whole,) = last([leaf], grads, diags)
    cut = last(parts, *([np.split(x, [at]) for (x,) in arrays] for arrays in (grads, diags)))
    *_, (_, bounds) = model_and_bounds(grads, diags, [leaf], **HYPER)
    assert_agree([np.concatenate(cut)], [whole], bounds)


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


@jax.jit
def reflected_estimate(signs, flip, params, z):
    """z * Hz of the loss of reflected parameters, at the reflected point and for the reflected probe."""
    reflect = lambda tree: jax.tree.map(jnp.multiply, signs, tree)
    z = jax.tree.map(lambda leaf: flip * leaf, reflect(z))
    product = oah.hessian_vector_product(lambda p: coupled(reflect(p)), reflect(params), z)
    return jax.tree.map(jnp.multiply, z, product)


@hypothesis.settings(DETERMINISTIC, max_examples=20)
@hypothesis.given(SEEDS, SEEDS, st.sampled_from([-1.0, 1.0]))
def test_the_signs_of_a_probe(seed, probe_seed, flip):
    """(D z) * (D H D) (D z) = z * (H z) for a diagonal D of signs; and -z is as good as z."""
    signs = oah.rademacher_like(jax.random.key(seed), PARAMS)
    z = oah.rademacher_like(jax.random.key(probe_seed), PARAMS)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    expected = reflected_estimate(ones, 1.0, PARAMS, z)
    jax.tree.map(np.testing.assert_array_equal, reflected_estimate(signs, flip, PARAMS, z), expected)


def stacked(members):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


@hypothesis.settings(DETERMINISTIC, max_examples=4)
@hypothesis.given(trees(leaves(SINGLE)), SEEDS)
def test_jit_and_vmap(tree, seed):
    """Two members, whose estimates that are not finite come at different steps."""
    tx = oah.scale_by_adahessian(**HYPER, spatial_average=average_of(tree))
    (grads, diags), (others, other_diags) = random_run(seed, tree), random_run(seed + 1, tree)
    members = [(grads, diags), (others, other_diags[::-1])]
    alone = [list(run(tx, tree, *member)) for member in members]
    update = lambda g, h, state: tx.update(g, state, hessian_diag=h)
    together, jitted = jax.vmap(update), jax.jit(update)
    state = tx.init(typed(grads[0], tree))
    states = stacked([state, state])
    bounds = [list(model_and_bounds(*member, tree, **HYPER)) for member in members]
    for t in range(len(grads)):
        inputs = [(typed(g[t], tree), typed(h[t], tree)) for g, h in members]
        updates, state = jitted(*inputs[0], state)
        both, states = together(*stacked(inputs), states)
        for got, i in ((updates, 0), *((jax.tree.map(lambda x, i=i: x[i], both), i) for i in range(2))):
            assert_agree(got, jax.tree.leaves(alone[i][t][0]), bounds[i][t][1])
    np.testing.assert_array_equal(states.rejected, [run_[-1][1].rejected for run_ in alone])
