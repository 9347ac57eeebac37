"""Estimates and gradients that are not finite: what is rejected, by whom, and what is left of it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah


def run(update, state, grads, diags):
    """The updates, and the last state."""
    updates = []
    for g, h in zip(grads, diags, strict=True):
        u, state = update(g, state, hessian_diag=h)
        updates.append(u)
    return updates, state


def matrices(seed, dtype):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=(2, 2)), dtype) for name in ("v", "w")}


BAD_BLOCKS = [np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0], [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("dtype", "signed"),
    [("float16", False), ("bfloat16", False), ("float32", False), ("float32", True), ("float64", False)],
)
def test_an_estimate_that_is_not_finite_is_as_none(dtype, signed):
    """To the bit, also as the very first. The finite entries of its block and of the other leaf do not count either."""
    with jax.enable_x64(dtype == "float64"):
        grads, diags = [matrices(t, dtype) for t in range(3)], [matrices(t, dtype) for t in range(3, 6)]
        tx = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.lengths(2, "OIHW", signed=signed))
        update, state = jax.jit(tx.update), tx.init(grads[0])
        for at in (0, 1):
            expected = run(update, state, grads, [None if t == at else h for t, h in enumerate(diags)])
            for block in BAD_BLOCKS:
                spoilt = diags[at] | {"w": diags[at]["w"].at[1].set(jnp.array(block, dtype))}
                updates, last = run(update, state, grads, [*diags[:at], spoilt, *diags[at + 1 :]])
                assert last.rejected == 1
                chex.assert_trees_all_equal((updates, last._replace(rejected=jnp.int32(0))), expected)


def replicated_run(spread, points):
    """Two steps on eight replicas; the second sees `points`, one for each."""
    tx = paper.scale_by_adahessian(hessian_diagonal_fn=oah.hutchinson(axis_name="replicas"))
    start = jnp.zeros([])

    def loss_fn(w, x):
        return jnp.abs(w - x) ** 1.5  # at w = x its gradient is 0, and its curvature infinity times 0

    def one_replica(x):
        state = tx.init(start)
        for own in (jnp.ones_like(x), x):
            own_loss = lambda w, own=own: loss_fn(w, own.squeeze())
            grads = jax.lax.pmean(jax.grad(own_loss)(jax.lax.pcast(start, "replicas", to="varying")), "replicas")
            updates, state = tx.update(grads, state, start, obj_fn=own_loss)
        return jax.tree.map(lambda a: a[None], (updates, state))

    return spread(one_replica)(points)


def by_pmap(fn):
    def whole(points):
        return jax.tree.map(lambda a: a.reshape(8, *a.shape[2:]), jax.pmap(fn, axis_name="replicas")(points))

    return whole


def by_shard_map(fn):
    mesh = jax.make_mesh((8,), ("replicas",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=P("replicas"), out_specs=P("replicas")))


@pytest.mark.parametrize("spread", [by_pmap, by_shard_map])
def test_what_one_replica_of_eight_cannot_use_none_does(spread):
    points = jnp.ones(8).at[3].set(0.0)
    updates, state = replicated_run(spread, points)
    np.testing.assert_array_equal(state.rejected, np.ones(8))
    np.testing.assert_array_equal(state.last_estimate, np.ones(8))
    assert len({replica.tobytes() for replica in np.asarray(state.nu)}) == 1
    # The first step's curvature, 0.75 at a distance of 1, is all there is: mu_hat = 0.9 * 0.1 g1 + 0.1 g2 corrected.
    slopes = -1.5, -1.5 * 7 / 8
    mu_hat = (0.9 * 0.1 * slopes[0] + 0.1 * slopes[1]) / (1 - 0.9**2)
    np.testing.assert_allclose(updates, np.full(8, mu_hat / (0.75 + 1e-4)), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_stays_where_optax_adam_has_it(bad):
    """In its own entry, for good; the second moment knows nothing of it."""
    ones = jnp.ones(3)
    grads = [ones, jnp.array([1.0, bad, 1.0]), ones, ones]
    tx, adam = oah.scale_by_adahessian(), optax.scale_by_adam()
    updates, state = run(tx.update, tx.init(ones), grads, [ones] * 4)
    adam_state = adam.init(ones)
    for g, u in zip(grads, updates, strict=True):
        adam_updates, adam_state = adam.update(g, adam_state)
        np.testing.assert_array_equal(jnp.isfinite(u), jnp.isfinite(adam_updates))
    assert np.all(np.isfinite(state.nu))
    assert state.rejected == 0


def test_apply_if_finite_undoes_a_bad_step():
    """To the bit: parameters, moments, counters and the estimator's next probe are those of a run without it."""
    tx = optax.apply_if_finite(oah.adahessian(0.1, update_interval=2, dense_start=1), max_consecutive_errors=3)

    @jax.jit
    def step(params, state, x):
        loss_fn = lambda w: jnp.sum((x @ jnp.tanh(w)) ** 2)
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)
        return optax.apply_updates(params, updates), state

    def train(batches):
        params = jnp.linspace(0.1, 0.4, 4)
        state = tx.init(params)
        for x in batches:
            params, state = step(params, state, x)
        return params, state

    good = list(jax.random.normal(jax.random.key(0), (6, 3, 4)))
    params, state = train([*good[:3], jnp.full((3, 4), jnp.nan), *good[3:]])
    expected_params, expected_state = train(good)
    assert state.total_notfinite == 1
    chex.assert_trees_all_equal(params, expected_params)
    chex.assert_trees_all_equal(state._replace(total_notfinite=jnp.int32(0)), expected_state)
