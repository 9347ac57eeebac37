"""`adaptive_nesterov`: its memory grows where gradients point against their average, up to that of `b1`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_adahessian as oah

EPS = float(jnp.finfo(jnp.float32).eps)


def late_state(ema, memory):
    """One in which no step is among the first."""
    return oah.AdaptiveNesterovState(count=jnp.int32(1000), memory=jnp.float32(memory), ema=ema)


def memory_after(g, ema, memory=5.0, b1=0.99):
    """That of a step from there."""
    return float(oah.adaptive_nesterov(b1).update(g, late_state(ema, memory))[1].memory)


def numpy_nesterov(grads, b1):
    """Updates and memories of `adaptive_nesterov`, for vectors."""
    ema, memory = np.zeros_like(grads[0]), 3.0
    for t, g in enumerate(grads, start=1):
        norms = np.linalg.norm(g) * np.linalg.norm(ema)
        memory = min(max(memory - (g @ ema / norms if norms else 0.0) / 5, 3.0), 1 / (1 - b1))
        decay = 1 - 1 / min(memory, t)
        ema = decay * ema + (1 - decay) * g
        yield decay * ema + (1 - decay) * g, memory


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.99])
def test_it_follows_the_rule(b1):
    """The gradients swing for 300 steps, long enough for a memory of 10 steps, and then point one way."""
    rng = np.random.default_rng(0)
    grads = [((-1.0) ** t if t < 300 else 1.0) + 0.3 * rng.normal(size=3) for t in range(400)]
    expected, memories = zip(*numpy_nesterov(grads, b1), strict=True)
    with jax.enable_x64(True):
        tx = oah.adaptive_nesterov(b1)

        def step(state, g):
            updates, state = tx.update(g, state)
            return state, (updates, state.memory)

        _, (updates, memory) = jax.lax.scan(step, tx.init(jnp.zeros(3)), jnp.asarray(grads))
        memory = np.asarray(memory)
        np.testing.assert_allclose(updates, expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(memory, memories, rtol=1e-11)
    if b1 == 0.99:
        assert memory[399] + 5 < memory[299] > 30
    else:
        assert memory[299] == pytest.approx(1 / (1 - b1))


def test_the_angle_is_that_of_the_whole_tree():
    g, ema = {"a": -jnp.ones((2, 2)), "b": 2.0 * jnp.ones(3)}, {"a": 3.0 * jnp.ones((2, 2)), "b": jnp.ones(3)}
    cosine = (4 * -3 + 3 * 2) / np.sqrt((4 + 12) * (36 + 3))
    assert memory_after(g, ema) == pytest.approx(5 - cosine / 5, rel=4 * EPS)


NO_ANGLE = {
    "no gradient": ([0.0, 0.0], [1.0, 2.0]),
    "no average": ([1.0, 2.0], [0.0, 0.0]),
    "orthogonal": ([-1.0, 2.0], [2.0, 1.0]),
    "large": ([1e30, -1e30], [1.0, 2.0]),
    "small": ([1e-30, -1e-30], [1.0, 2.0]),
    "NaN": ([jnp.nan, 1.0], [1.0, 2.0]),
    "infinite": ([1.0, 2.0], [jnp.inf, 1.0]),
}


@pytest.mark.parametrize("case", NO_ANGLE)
def test_where_there_is_no_angle_the_memory_stays(case):
    assert memory_after(*map(jnp.array, NO_ANGLE[case])) == 5.0


def test_half_precision_is_compared_in_single():
    """The squares, 2**-28, are zero in float16."""
    g = jnp.full(4, 2.0**-14, jnp.float16)
    assert memory_after(g, g.at[0].multiply(-1)) == pytest.approx(5 - (3 - 1) / 4 / 5, abs=(4 + 4) * EPS)


@pytest.mark.parametrize("accumulator_dtype", [None, jnp.bfloat16])
def test_it_looks_ahead_from_the_average_before_that_is_rounded_to_its_dtype(accumulator_dtype):
    """The mean of 1 and 1 + 2**-7 is 1 in bfloat16. At the second step the update is the mean of the mean and of g."""
    tx = oah.adaptive_nesterov(accumulator_dtype=accumulator_dtype)
    state = tx.init(jnp.zeros([]))
    for g in (1.0, 1 + 2**-7):
        updates, state = tx.update(jnp.float32(g), state)
    assert state.ema == (1 + 2**-8 if accumulator_dtype is None else 1)
    assert updates == 1 + 2**-9 + 2**-8
    assert updates.dtype == jnp.float32


def test_dtypes_of_a_tree():
    with jax.enable_x64(True):
        params = {"half": jnp.ones(2, jnp.bfloat16), "double": jnp.ones(2), "none": None}
        tx = oah.adaptive_nesterov()
        state = tx.init(params)
        updates, after = tx.update(params, state)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert state.memory.dtype == jnp.float64
        assert tx.init({}).memory.dtype == jnp.float32
