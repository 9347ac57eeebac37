"""Estimates and gradients that are not finite: each affects its own entry alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

H = jnp.array([[2.0, 0.5], [0.5, 1.0]])


def partly_singular(params):
    """At b = 0 the gradient of |b|^1.5 is 0 and its curvature infinite, and z * Hz is NaN."""
    return 0.5 * params["w"] @ H @ params["w"] + jnp.sum(jnp.abs(params["b"]) ** 1.5)


def fed_by_diag(tx, params, state):
    key = jax.random.fold_in(jax.random.key(0), state[0].count)
    _, grads, diag = oah.value_grad_and_hessian_diag(partly_singular)(key, params)
    return tx.update(grads, state, params, hessian_diag=diag)


def fed_by_loss(tx, params, state):
    return tx.update(jax.grad(partly_singular)(params), state, params, obj_fn=partly_singular)


@pytest.mark.parametrize("feed", [fed_by_diag, fed_by_loss])
def test_what_is_finite_trains_on(feed):
    tx = oah.adahessian(0.15)
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.zeros(2)}
    state, start = tx.init(params), partly_singular(params)

    @jax.jit
    def step(params, state):
        updates, state = feed(tx, params, state)
        return optax.apply_updates(params, updates), state

    for _ in range(30):
        params, state = step(params, state)
    assert partly_singular(params) < 0.1 * start
    np.testing.assert_array_equal(params["b"], 0)
    chex.assert_tree_all_finite((params, state))
    assert state[0].rejected == 30


def run(update, state, grads, diags):
    """The updates, and the last state."""
    updates = []
    for g, h in zip(grads, diags, strict=True):
        u, state = update(g, state, hessian_diag=h)
        updates.append(u)
    return updates, state


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
def test_where_all_is_bad_nothing_moves_before_the_first_finite_estimate(bad):
    """Later the old average is used, and the estimates that were rejected leave no trace in it."""
    tx, ones = oah.scale_by_adahessian(b2=0.9), jnp.ones(3)
    updates, state = run(tx.update, tx.init(ones), [ones] * 4, [bad * ones, bad * ones, 2 * ones, bad * ones])
    np.testing.assert_array_equal(updates[:2], 0)
    np.testing.assert_allclose(updates[2:], 1 / (2 + 1e-4), rtol=1e-5)
    assert (state.rejected, state.count, state.last_estimate) == (3, 4, 4)
    # After a rejected one, an estimate has the weight of its own step, (1 - b2) / (1 - b2^5), in the running mean.
    _, state = tx.update(ones, state, hessian_diag=5 * ones)
    weight = 0.1 / (1 - 0.9**5)
    np.testing.assert_allclose(state.nu, (1 - weight) * 2**2 + weight * 5**2, rtol=1e-5)


BAD_BLOCKS = [np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0], [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("dtype", "signed"),
    [("float16", False), ("bfloat16", False), ("float32", False), ("float32", True), ("float64", False)],
)
def test_a_block_that_is_not_finite_keeps_its_average_and_no_other_block_sees_it(dtype, signed):
    """To the bit: the block as if it had no estimate at that step, the others as if all had been finite."""
    with jax.enable_x64(dtype == "float64"):
        grads, diags = jax.random.normal(jax.random.key(0), (2, 2, 3, 2), dtype)
        tx = oah.scale_by_adahessian(b2=0.5, spatial_average=oah.SpatialAverage.lengths(2, "OIHW", signed=signed))
        update, state = jax.jit(tx.update), tx.init(grads[0])
        finite, _ = run(update, state, grads, diags)
        skipped, _ = run(update, state, grads, [diags[0], None])
        for block in BAD_BLOCKS:
            spoilt = diags[1].at[1].set(jnp.array(block, dtype))
            updates, last = run(update, state, grads, [diags[0], spoilt])
            assert last.rejected == 1
            np.testing.assert_array_equal(updates[1][1], skipped[1][1])
            np.testing.assert_array_equal(updates[1][::2], finite[1][::2])


def by_pmap(fn):
    mapped = jax.pmap(fn, axis_name="replicas")
    return lambda points: jax.tree.map(lambda a: a.reshape(8, *a.shape[2:]), mapped(points))


def by_shard_map(fn):
    mesh = jax.make_mesh((8,), ("replicas",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=P("replicas"), out_specs=P("replicas")))


@pytest.mark.parametrize("spread", [by_pmap, by_shard_map])
def test_what_one_replica_of_eight_cannot_use_none_does(spread):
    """At w = x the gradient of the loss is 0, and its curvature infinity times 0: in the second step of one replica."""
    tx = oah.scale_by_adahessian(hessian_diagonal_fn=oah.hutchinson(axis_name="replicas"))
    start = jnp.zeros([])

    def one_replica(x):
        state = tx.init(start)
        for own in (jnp.ones_like(x), x):
            own_loss = lambda w, own=own: jnp.abs(w - own.squeeze()) ** 1.5
            _, grads, _ = oah.value_grad_and_hessian_diag(own_loss, axis_name="replicas")(None, start)
            updates, state = tx.update(grads, state, start, obj_fn=own_loss)
        return jax.tree.map(lambda a: a[None], (updates, state))

    updates, state = spread(one_replica)(jnp.ones(8).at[3].set(0.0))
    np.testing.assert_array_equal(state.rejected, np.ones(8))
    assert len({replica.tobytes() for replica in np.asarray(state.nu)}) == 1
    # The first step's curvature, 0.75 at a distance of 1, is all there is: mu_hat = 0.9 * 0.1 g1 + 0.1 g2 corrected.
    slopes = -1.5, -1.5 * 7 / 8
    mu_hat = (0.9 * 0.1 * slopes[0] + 0.1 * slopes[1]) / (1 - 0.9**2)
    np.testing.assert_allclose(updates, np.full(8, mu_hat / (0.75 + 1e-4)), rtol=1e-5)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("b1", [0.9, 0])
def test_a_gradient_that_is_not_finite_makes_its_own_entry_nan_also_behind_a_clip(b1, bad):
    """With momentum for good, as in optax.adam; an infinite step would leave the clip as one of 0.01 for ever."""
    ones = jnp.ones(3)
    grads = [ones, jnp.array([1.0, bad, 1.0]), ones]
    tx = optax.chain(oah.adahessian(0.1, b1=b1), optax.clip(0.01))
    update = lambda g, state, hessian_diag: tx.update(g, state, ones, hessian_diag=hessian_diag)
    updates, state = run(update, tx.init(ones), grads, [ones] * 3)
    for t, u in enumerate(updates):
        np.testing.assert_array_equal(jnp.isnan(u), [False, t == 1 or (t == 2 and b1 > 0), False])
        np.testing.assert_allclose(u[::2], -0.01)
    assert np.all(np.isfinite(state[0][0].nu))
    assert state[0][0].rejected == 0
