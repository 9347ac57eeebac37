"""Ensembles under vmap: every member is trained as it would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ways

import optax_adahessian as oah

MEMBERS = 3


def members_params():
    scale = jnp.linspace(0.5, 1.5, MEMBERS)
    return jax.tree.map(lambda p: p[None] * scale[:, None, None], ways.initial_params())


def member(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def flops(fn, *args):
    return jax.jit(fn).lower(*args).cost_analysis()["flops"]


@pytest.mark.parametrize("feed", [ways.fed_by_estimate, ways.fed_by_loss])
def test_members_are_trained_as_alone(feed):
    tx = ways.optimizer(update_interval=2, dense_start=1)
    params, keys, batch = members_params(), jax.random.split(jax.random.key(0), MEMBERS), ways.batch_at(0)
    step = jax.jit(feed(tx))
    together = jax.jit(jax.vmap(feed(tx), in_axes=(0, 0, 0, None)))
    states = jax.vmap(tx.init)(params)
    alone = [(member(params, i), tx.init(member(params, i))) for i in range(MEMBERS)]
    for _ in range(3):
        params, states, _ = together(params, states, keys, batch)
        alone = [step(p, s, key, batch)[:2] for (p, s), key in zip(alone, keys, strict=True)]
    for i, (p, s) in enumerate(alone):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), member(params, i), p)
        assert int(states[0].last_estimate[i]) == int(s[0].last_estimate)


def test_members_of_one_estimator_draw_the_same_probes_and_own_keys_draw_own_ones():
    coupled = lambda w: 0.5 * jnp.sum(w) ** 2  # h = z * sum(z): tells probes apart
    tx = oah.hutchinson(key=0)
    params = jnp.ones((16, 4))
    diags, _ = jax.vmap(lambda p: tx.update(p, tx.init(p), p, obj_fn=coupled))(params)
    assert len(np.unique(diags, axis=0)) == 1
    keys = jax.random.split(jax.random.key(0), 16)
    _, _, diags = jax.vmap(oah.value_grad_and_hessian_diag(coupled))(keys, params)
    assert len(np.unique(diags, axis=0)) > 1


def test_the_cond_of_an_interval_becomes_a_select_and_a_choice_outside_of_vmap_remedies_it():
    tx = ways.optimizer(update_interval=10, dense_start=0)
    params, keys, batch = members_params(), jax.random.split(jax.random.key(0), MEMBERS), ways.batch_at(0)
    args = params, jax.vmap(tx.init)(params), keys
    by_loss = jax.vmap(ways.fed_by_loss(tx), in_axes=(0, 0, 0, None))
    assert "cond[" in str(jax.make_jaxpr(ways.fed_by_loss(tx))(*member(args, 0), batch))
    assert "cond[" not in str(jax.make_jaxpr(by_loss)(*args, batch))

    # So every step pays for an estimate. The steps of a loop that chooses outside of vmap do not.
    estimating = jax.vmap(ways.fed_by_estimate(tx), in_axes=(0, 0, 0, None))
    between = jax.vmap(ways.without_estimate(tx), in_axes=(0, 0, 0, None))
    assert flops(by_loss, *args, batch) > 0.9 * flops(estimating, *args, batch)
    assert flops(between, *args, batch) < 0.5 * flops(estimating, *args, batch)
