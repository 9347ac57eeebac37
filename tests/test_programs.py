"""What XLA is given: floating-point operations, primitives, compilations."""

import collections

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from jaxprs import all_equations

import optax_adahessian as oah
from benchmarks import flops
from benchmarks.flops import PROBLEMS, first_order_step, obj_fn_step
from benchmarks.models import conv_net, mlp
from benchmarks.programs import tree_size


@pytest.mark.long
@pytest.mark.parametrize("name", PROBLEMS)
def test_flops_by_the_count_of_xla(name):
    problem = PROBLEMS[name]()
    assert flops.estimate(problem) <= 3.10
    assert flops.whole_step(problem) <= 3.40
    assert flops.skipped_step(problem) <= 1.03


def primitive_counts(fun, *args):
    """How often each primitive stands in the jaxpr, those of inner jaxprs included."""
    return collections.Counter(e.primitive.name for e in all_equations(jax.make_jaxpr(fun)(*args).jaxpr))


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_step_without_an_estimate_has_the_products_of_adamw(name):
    problem = PROBLEMS[name]()
    tx, adamw = oah.adahessian(0.1, weight_decay=1e-4), optax.adamw(1e-3)
    ours = primitive_counts(
        first_order_step(problem, tx, hessian_diag=None), problem.params, tx.init(problem.params), problem.batch
    )
    theirs = primitive_counts(
        first_order_step(problem, adamw), problem.params, adamw.init(problem.params), problem.batch
    )
    assert theirs["dot_general"] > 0
    for primitive in ("dot_general", "conv_general_dilated"):
        assert ours.get(primitive, 0) == theirs.get(primitive, 0)


@pytest.mark.parametrize("interval", [1, 2])
def test_interval_1_holds_no_cond(interval):
    problem = mlp()
    recommended = optax.inject_hyperparams(oah.adahessian, static_args=("update_interval", "dense_start", "mask"))(
        learning_rate=0.1, update_interval=interval
    )
    for tx in (oah.adahessian(update_interval=interval), recommended):
        counts = primitive_counts(obj_fn_step(problem, tx), problem.params, tx.init(problem.params), problem.batch)
        assert counts.get("cond", 0) == (interval > 1)


@pytest.mark.parametrize(("block", "reshapes"), [((1, 1), False), ((-1, 1), False), ((2, 1), True)])
def test_only_an_axis_that_is_cut_in_parts_is_reshaped(block, reshapes):
    tx = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.custom(lambda path, leaf: block))
    h = jnp.ones((4, 6))
    counts = primitive_counts(lambda h: tx.update(h, tx.init(h), hessian_diag=h), h)
    assert (counts.get("reshape", 0) > 0) == reshapes


@pytest.mark.parametrize("interval", [1, 3])
def test_100_steps_are_one_compilation(interval):
    chex.clear_trace_counter()
    problem = mlp(batch_size=4, width=8)
    tx = oah.adahessian(optax.cosine_decay_schedule(0.1, 100), update_interval=interval)
    step = jax.jit(chex.assert_max_traces(obj_fn_step(problem, tx), n=1))
    params, state = problem.params, tx.init(problem.params)
    first_state = state
    for _ in range(100):
        params, state, loss = step(params, state, problem.batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, first_state)
    assert jnp.isfinite(loss)


def test_two_compiled_steps_serve_100_steps_of_an_interval():
    chex.clear_trace_counter()
    problem = mlp(batch_size=4, width=8)
    tx = oah.adahessian(0.1)
    estimate = oah.value_grad_and_hessian_diag(problem.loss_fn)

    def estimating(params, state, key, batch):
        loss, grads, diag = estimate(key, params, batch)
        updates, state = tx.update(grads, state, params, hessian_diag=diag)
        return optax.apply_updates(params, updates), state, loss

    estimating = jax.jit(chex.assert_max_traces(estimating, n=1))
    skipping = jax.jit(chex.assert_max_traces(first_order_step(problem, tx, hessian_diag=None), n=1))
    params, state = problem.params, tx.init(problem.params)
    for t in range(100):
        if oah.refresh_due(t, 10):
            params, state, loss = estimating(params, state, jax.random.fold_in(jax.random.key(0), t), problem.batch)
        else:
            params, state, loss = skipping(params, state, problem.batch)
    assert jnp.isfinite(loss)


def test_the_second_moment_of_rows_is_a_fraction_of_the_parameters():
    params = conv_net().params
    state = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.rows("HWIO")).init(params)
    assert tree_size(state.nu) <= 0.15 * tree_size(params)
    assert tree_size(state.mu) == tree_size(params)
