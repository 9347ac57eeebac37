"""Every recorded run of the PyTorch originals: the derivatives of its loss, and the rule that was fed with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.golden import CASES, arrays, flattened, hessian_diag, loss_fn, recorded, spatial_average

import optax_adahessian as oah

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}

# Nearly all the time goes into compiling; this setting makes it faster.
COMPILE_FAST = {"xla_cpu_use_fusion_emitters": False}


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def assert_is_recorded(got, expected, dtype, relative=True):
    """Within the tolerance, relative to max(1, recorded) or absolutely; a NaN fails."""
    for name, x in expected.items():
        error = np.abs(got[name] - x) / (np.maximum(1, np.abs(x)) if relative else 1)
        assert np.max(error) <= TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case_id", CASES)
def test_gradients_and_products_are_the_recorded_ones(case_id, dtype):
    """At each point of the run, with its probes."""
    with jax.enable_x64(dtype == "float64"):
        loss = loss_fn(CASES[case_id], arrays(case_id), dtype)

        def derivatives(params, probes):
            products = jax.vmap(lambda z: oah.hessian_vector_product(loss, params, z))(probes)
            return *jax.value_and_grad(loss)(params), products

        points = {name: p[:-1] for name, p in recorded(case_id, "p").items()}
        inputs = cast((points, recorded(case_id, "z")), dtype)
        at_each_point = jax.jit(jax.vmap(derivatives), compiler_options=COMPILE_FAST)
        value, grads, products = jax.tree.map(np.asarray, at_each_point(*inputs))
    assert_is_recorded({"loss": value}, {"loss": arrays(case_id)["loss"]}, dtype)
    assert_is_recorded(grads, recorded(case_id, "g"), dtype)
    assert_is_recorded(products, recorded(case_id, "hz"), dtype)


def replay(case_id, dtype):
    """Parameters, curvatures and moments of each step, free running from the first parameters."""
    hyper, rates, average = CASES[case_id]["hyper"], arrays(case_id)["lr"], spatial_average(case_id)
    b1, b2 = hyper["betas"]
    tx = oah.adahessian(
        learning_rate=lambda count: jnp.asarray(rates)[count],
        b1=b1,
        b2=b2,
        eps=hyper["eps"],
        hessian_power=hyper["hessian_power"],
        weight_decay=hyper["weight_decay"],
        spatial_average=average,
    )
    # With b2 = 0 the second moment is the square of the last block mean: what entered it can be read off the state.
    last_curvature = oah.scale_by_adahessian(b1=0, b2=0.0, eps=0.0, spatial_average=average)

    def one_step(carry, inputs):
        (params, state, curvature_state), (grads, diag) = carry, inputs
        updates, state = tx.update(grads, state, params, hessian_diag=diag)
        params = optax.apply_updates(params, updates)
        _, curvature_state = last_curvature.update(grads, curvature_state, hessian_diag=diag)
        # The state holds the corrected second moment, the record the one before the correction.
        weight = -jnp.expm1(state[0].count * jnp.log(b2)) if b2 else 1.0
        curvature, nu = jax.tree.map(jnp.sqrt, curvature_state.nu), jax.tree.map(lambda v: v * weight, state[0].nu)
        return (params, state, curvature_state), {"p": params, "d": curvature, "m": state[0].mu or grads, "v": nu}

    def run(start, inputs):
        return jax.lax.scan(one_step, (start, tx.init(start), last_curvature.init(start)), inputs)[1]

    inputs = [flattened(case_id, tree) for tree in (recorded(case_id, "g"), hessian_diag(case_id))]
    start = {name: p[0] for name, p in flattened(case_id, recorded(case_id, "p")).items()}
    return jax.jit(run, compiler_options=COMPILE_FAST)(*cast((start, inputs), dtype))


def expanded(x, shape):
    """One entry per block repeated to `shape`."""
    return np.kron(x, np.ones([size // blocks for size, blocks in zip(shape, x.shape, strict=True)]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case_id", CASES)
def test_the_rule_fed_with_them_makes_the_recorded_steps(case_id, dtype):
    with jax.enable_x64(dtype == "float64"):
        trace = jax.tree.map(np.asarray, replay(case_id, dtype))
    for kind, got in trace.items():
        expected = flattened(case_id, recorded(case_id, kind))
        if kind == "p":
            expected = {name: p[1:] for name, p in expected.items()}
        got = {name: expanded(got[name], x.shape) for name, x in expected.items()}
        assert_is_recorded(got, expected, dtype, relative=kind != "p")


def test_one_weight_per_estimate_beside_repeated_estimates():
    """What docs/fidelity.md says of estimates every u steps: davda54's rule arrives u - 1 steps later where ours is."""
    b2, interval, estimates = 0.9, 3, jnp.array([2.0, 5.0, 3.0, 7.0])
    tx = oah.scale_by_adahessian(b1=0, b2=b2, eps=0.0)
    params, update = jnp.zeros(()), jax.jit(tx.update)
    ours = repeated = tx.init(params)
    for k, h in enumerate(estimates):
        for t in range(interval):
            _, ours = update(params, ours, params, hessian_diag=None if t else h)
            _, repeated = update(params, repeated, params, hessian_diag=h)
        # Ours gives the first estimate the weight of the one step that has passed, the repeated ones that of u steps.
        first = b2 ** (k * interval) * ((1 - b2**interval) - (1 - b2)) * estimates[0] ** 2
        weights = 1 - b2 ** (k * interval + 1), 1 - b2 ** ((k + 1) * interval)
        np.testing.assert_allclose(weights[1] * repeated.nu, weights[0] * ours.nu + first, rtol=1e-5)
