"""Probes in a loop: the estimate of unrolled ones, in a program that does not grow with them."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxprs import all_equations
from test_curvature import PARAMS, coupled, pallas_square

import optax_adahessian as oah

KEY = jax.random.key(3)


def estimates(fun, params, **options):
    """The diagonal from unrolled probes, and from a loop over the same."""
    make = functools.partial(oah.value_grad_and_hessian_diag, fun, **options)
    return [jax.jit(make(unroll=unroll))(KEY, params)[2] for unroll in (True, False)]


@pytest.mark.parametrize("num_probes", [1, 5])
@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
def test_the_same_estimate(num_probes, hvp):
    unrolled, looped = estimates(coupled, PARAMS, num_probes=num_probes, hvp=hvp)
    # The largest |z * Hz| is 7; five such terms, each product of five, may round in another order.
    chex.assert_trees_all_close(looped, unrolled, rtol=0, atol=5 * 5 * 7 * jnp.finfo(jnp.float32).eps)


def test_leaves_keep_their_dtypes():
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2)}
    unrolled, looped = estimates(lambda p: jnp.sum(p["half"] ** 2) + jnp.sum(p["single"] ** 3), params, num_probes=3)
    chex.assert_trees_all_equal_shapes_and_dtypes(looped, unrolled)
    chex.assert_trees_all_close(looped, unrolled)


def test_rules_that_linearize_cannot_pass():
    unrolled, looped = estimates(lambda w: jnp.sum(pallas_square(w)), jnp.array([3.0, 1.0]), num_probes=3)
    chex.assert_trees_all_close(looped, unrolled)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_over_replicas(axis_type, check_vma):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,), devices=jax.devices()[:2])

    def diag(key, params, batch, unroll):
        fun = lambda p, x: jnp.mean((jnp.tanh(x @ p)) ** 2)
        estimate = oah.value_grad_and_hessian_diag(fun, num_probes=3, axis_name="data", unroll=unroll)
        return estimate(key, params, batch)[2]

    batch = jnp.arange(12.0).reshape(4, 3) / 6
    with jax.set_mesh(mesh):
        looped, unrolled = (
            jax.jit(
                jax.shard_map(
                    functools.partial(diag, unroll=unroll),
                    in_specs=(P(), P(), P("data")),
                    out_specs=P(),
                    check_vma=check_vma,
                )
            )(KEY, jnp.ones(3), jax.device_put(batch, P("data")))
            for unroll in (False, True)
        )
    chex.assert_trees_all_close(looped, unrolled, rtol=1e-5)


def test_the_program_does_not_grow_with_the_probes():
    def lines(num_probes):
        estimate = oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes, unroll=False)
        return len(str(jax.make_jaxpr(estimate)(KEY, PARAMS)).splitlines())

    assert lines(100) == lines(2)


def test_the_default_holds_no_loop():
    """Convolutions inside one run 10 to 30 times slower on the CPU."""
    for options, expected in (({}, set()), ({"unroll": False}, {"scan"})):
        estimate = oah.value_grad_and_hessian_diag(coupled, num_probes=3, **options)
        tx = oah.hutchinson(num_probes=3, **options)
        update = lambda p, tx=tx: tx.update(p, tx.init(p), p, obj_fn=coupled)
        for jaxpr in (jax.make_jaxpr(estimate)(KEY, PARAMS), jax.make_jaxpr(update)(PARAMS)):
            assert {e.primitive.name for e in all_equations(jaxpr.jaxpr)} & {"scan", "while"} == expected


def test_the_estimator_draws_the_same_probes_in_a_loop():
    diags = []
    for unroll in (True, False):
        tx = oah.hutchinson(num_probes=4, key=1, unroll=unroll)
        diags.append(tx.update(PARAMS, tx.init(PARAMS), PARAMS, obj_fn=coupled)[0])
    chex.assert_trees_all_close(*diags, rtol=1e-5, atol=1e-5)
