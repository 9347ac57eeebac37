"""What XLA is given: floating-point operations, primitives, compilations; and what a run leaves behind."""

import functools
import resource
from pathlib import Path

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ways
from helpers.feeds import by_diag, by_loss, without_estimate
from helpers.jaxprs import all_equations
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

KEY = jax.random.key(0)


def conv_loss(params, batch):
    x, y = batch
    maps = jax.lax.conv_general_dilated(x, params["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.mean((jnp.tanh(maps).reshape(len(x), -1) @ params["dense"] - y) ** 2)


# The loss, parameters, and a batch that is large enough for the products to outweigh what is done to each parameter.
PROBLEMS = {
    "mlp": (ways.loss_fn, ways.initial_params(), ways.batch_at(0, 1024)),
    "conv net": (
        conv_loss,
        {"conv": jnp.ones((3, 3, 8, 8)) / 9, "dense": jnp.ones((512, 4)) / 512},
        (jnp.ones((256, 8, 8, 8)), jnp.ones((256, 4))),
    ),
}


def compiled(fun, *args):
    return jax.jit(fun).lower(*args).compile()


def flops(fun, *args):
    return compiled(fun, *args).cost_analysis()["flops"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_flops_by_the_count_of_xla(problem):
    """In gradients: an estimate, a step of ours with one, and a step without."""
    loss, params, batch = PROBLEMS[problem]
    one = flops(jax.value_and_grad(loss), params, batch)
    assert flops(oah.value_grad_and_hessian_diag(loss), KEY, params, batch) <= 3.10 * one
    tx = oah.adahessian(0.1)
    args = params, tx.init(params), KEY, batch
    assert flops(ways.step_of(by_diag, tx, loss), *args) <= 3.40 * one
    assert flops(ways.step_of(without_estimate, tx, loss), *args) <= 1.03 * one


@pytest.mark.parametrize("axis_name", [None, ways.AXIS])
def test_an_estimate_without_a_key_has_the_flops_of_value_and_grad(axis_name):
    loss, params, batch = PROBLEMS["mlp"]
    ours = functools.partial(oah.value_grad_and_hessian_diag(loss, axis_name=axis_name), None)
    theirs = alone = jax.value_and_grad(loss)
    if axis_name is not None:
        over_replicas = functools.partial(
            jax.shard_map,
            mesh=ways.mesh_of(AxisType.Auto),
            in_specs=(P(), P(axis_name)),
            out_specs=P(),
            check_vma=False,  # with it JAX sums the gradient itself
        )
        ours, theirs = over_replicas(ours), over_replicas(lambda *args: jax.lax.pmean(alone(*args), axis_name))
    assert flops(lambda *args: ours(*args)[:2], params, batch) == flops(theirs, params, batch)
    *got, diag = jax.jit(ours)(params, batch)
    assert diag is None
    chex.assert_trees_all_close(tuple(got), jax.jit(theirs)(params, batch), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("interval", "conds"), [(1, 0), (np.int64(1), 0), (2, 1), (jnp.int32(1), 1)])
def test_at_interval_1_no_cond_is_around_the_estimate(interval, conds):
    loss, params, batch = PROBLEMS["mlp"]
    injected = optax.inject_hyperparams(oah.adahessian, static_args=("update_interval", "dense_start", "mask"))
    for make in (oah.adahessian, injected):
        tx = make(learning_rate=0.1, update_interval=interval)
        jaxpr = jax.make_jaxpr(ways.step_of(by_loss, tx, loss))(params, tx.init(params), KEY, batch)
        around = [e for e in all_equations(jaxpr.jaxpr) if e.primitive.name == "cond" and "dot_general" in str(e)]
        assert len(around) == conds


def test_the_program_of_an_update_grows_in_proportion_to_the_leaves():
    """A flag over the whole tree that each leaf reads made it grow with their square."""
    tx = oah.scale_by_adahessian()

    def instructions(leaves):
        h = [jnp.ones((2, 2))] * leaves
        return compiled(lambda h: tx.update(h, tx.init(h), hessian_diag=h), h).as_text().count(" = ")

    assert instructions(40) <= 2.1 * instructions(20)


def test_100_steps_of_an_interval_are_one_compilation_with_a_key_and_one_with_none():
    tx = optax.chain(oah.adahessian(0.15, b2=0.98, eps=1e-8), optax.clip(0.01))
    step, keys = jax.jit(ways.step_of(by_diag, tx)), []
    params, batch = ways.initial_params(), ways.batch_at(0)
    state = tx.init(params)
    for t in range(100):
        keys.append(oah.refresh_key(KEY, t, update_interval=10))
        params, state, loss = step(params, state, keys[-1], batch)
        assert step._cache_size() == 1 + (None in keys)
    assert None in keys
    assert jnp.isfinite(loss)


def coupled(w):
    return jnp.sum(jnp.sin(w)) ** 2


@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
def test_up_to_8_probes_are_unrolled_and_more_run_in_a_loop(hvp):
    """Convolutions inside a loop are slow on the CPU; without one the program would grow with the probes."""

    def jaxpr(num_probes):
        estimate = oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes, hvp=hvp)
        return jax.make_jaxpr(estimate)(KEY, jnp.ones(3))

    def loops(num_probes):
        return {e.primitive.name for e in all_equations(jaxpr(num_probes).jaxpr)} & {"scan", "while"}

    assert loops(8) == set()
    assert loops(9) == {"scan"}
    assert len(str(jaxpr(100)).splitlines()) == len(str(jaxpr(9)).splitlines())


@pytest.mark.parametrize("feed", [by_diag, by_loss, without_estimate])
def test_a_step_calls_no_python(feed):
    noisy = lambda params, batch: jax.debug.callback(lambda: None) or ways.loss_fn(params, batch)
    tx, params = ways.optimizer(update_interval=3), ways.initial_params()
    for loss, calls in ((ways.loss_fn, False), (noisy, True)):
        jaxpr = jax.make_jaxpr(ways.step_of(feed, tx, loss))(params, tx.init(params), ways.key_at(0), ways.batch_at(0))
        assert ("callback" in str(jaxpr)) == calls


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_100_000_steps_leave_nothing_behind():
    """No array, no memory, no transfer, no second compilation. A leak of 50 bytes a step would be 4.5 MB."""
    tx = oah.adahessian(1e-3, update_interval=2)

    @jax.jit
    def step(params, state, x):
        loss_fn = lambda w: jnp.sum((w - x) ** 4)
        updates, state, _ = by_loss(tx, loss_fn, params, state)
        return optax.apply_updates(params, updates), state

    params, x = jnp.ones(2), jnp.zeros(2)
    state, left = tx.init(params), []
    with jax.transfer_guard("disallow"):
        for steps in (10_000, 90_000):
            for _ in range(steps):
                params, state = step(params, state, x)
            jax.block_until_ready(params)
            left.append((len(jax.live_arrays()), resident_bytes()))
    assert state[0].count == 100_000
    assert left[1][0] == left[0][0]
    assert left[1][1] - left[0][1] < 4.5e6
    assert step._cache_size() == 1


@pytest.mark.parametrize("feed", [by_diag, by_loss, without_estimate])
def test_a_step_exported_for_several_platforms_is_here_the_one_compiled_here(feed):
    loss, params, batch = PROBLEMS["mlp"]
    tx = optax.chain(oah.adaptive_nesterov(), oah.adahessian(0.15, b1=0, b2=0.98, eps=1e-8), optax.clip(0.01))
    step, args = jax.jit(ways.step_of(feed, tx, loss)), (params, tx.init(params), KEY, batch)
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(*args)
    chex.assert_trees_all_equal(exported.call(*args), step(*args))
