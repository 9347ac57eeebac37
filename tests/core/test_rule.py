"""The rule: against a model in NumPy, also where estimates lack or are not finite; its defaults, its decay."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.model import Rule

import optax_adahessian as oah

# Leaves of every rank and dtype. Blocks have a power of two of entries, so that the mean of integers is exact.
LEAVES = [
    ((), (), "float64"),
    ((4,), (2,), "float32"),
    ((4,), (-1,), "bfloat16"),
    ((0, 3), (1, -1), "float32"),
    ((4, 4), (2, -1), "float64"),
    ((4, 3), (1, 1), "float16"),
    ((2, 1, 4), (-1, 1, 2), "float32"),
    ((4, 1, 2, 3), (-1, -1, 1, 1), "bfloat16"),
    ((2, 1, 1, 4, 2), (1, 1, 1, 2, 1), "float32"),
]


class Pair(NamedTuple):
    first: Any
    second: Any


def in_containers(leaves):
    """A tree with containers of every kind, and with None in the place of some leaves."""
    first, second, third, *rest = leaves
    return {"a": first, "b": [None, Pair(second, None)], "c": (third, {"d": rest})}


def typed(arrays):
    return in_containers([jnp.asarray(a, dtype) for a, (_, _, dtype) in zip(arrays, LEAVES, strict=True)])


NUMBER_OF_LEAF = dict(jax.tree_util.tree_leaves_with_path(in_containers(range(len(LEAVES)))))


def integers(rng):
    """An array for each leaf, exact in every dtype, so that only the rule rounds."""
    return [rng.integers(-3, 4, size=shape).astype(float) for shape, _, _ in LEAVES]


def estimate(kind, rng):
    """An estimate ("h"), one with an entry that is not finite ("n"), or none ("-")."""
    arrays = integers(rng)
    if kind == "n":
        array = rng.choice(np.array([a for a in arrays if a.size], dtype=object))
        array[tuple(rng.integers(array.shape))] = rng.choice([np.nan, np.inf, -np.inf])
    return None if kind == "-" else arrays


def rounding(steps, dtype, mu_dtype, b2):
    """The error of one update, relative to one of gradients without signs, in which nothing cancels.

    mu is rounded once a step to the dtype it is stored in, the update once to that of the gradients. Both moments are
    computed in at least float32, where a step takes less than 16 operations. The average of an estimate D steps after
    the last one has the weight w = (1 - b2^D) / (1 - b2^t). Where the new square is 0 all that is left is 1 - w, which
    has the error of w, magnified by w / (1 - w) <= D b2^-D. The D of all estimates add up to `steps` at most.
    """
    own, stored, computed = (
        float(jnp.finfo(d).eps) for d in (dtype, mu_dtype or dtype, jnp.promote_types(dtype, "f4"))
    )
    return own + steps * (stored + 16 * (computed + 2.0**-52) * (b2**-steps if b2 else 1))


@pytest.mark.parametrize("seed", range(10))
def test_a_tree_of_every_kind_follows_the_rule(seed):
    rng = np.random.default_rng(seed)
    decays = {name: float(rng.choice([0.0, 0.5, 0.9, 0.999])) for name in ("b1", "b2")}
    hyper = decays | {"eps": float(rng.choice([2.0**-10, 1.0])), "hessian_power": float(rng.choice([0.0, 0.5, 1.0]))}
    signed, mu_dtype = bool(rng.integers(2)), rng.choice([None, jnp.bfloat16])
    grads, diags = (
        [integers(rng) for _ in range(8)],
        [estimate(kind, rng) for kind in rng.permutation(list("hhhnn---"))],
    )
    average = oah.SpatialAverage.custom(lambda path, leaf: LEAVES[NUMBER_OF_LEAF[path]][1], signed=signed)
    tx = oah.scale_by_adahessian(**hyper, spatial_average=average, mu_dtype=mu_dtype)
    rules, sizes = ([Rule(block, signed=signed, **hyper) for _, block, _ in LEAVES] for _ in range(2))
    with jax.enable_x64(True):
        update, state = jax.jit(tx.update), tx.init(typed(grads[0]))
        for steps, (g, h) in enumerate(zip(grads, diags, strict=True), start=1):
            before = jax.tree.map(jax.typeof, (typed(g), state))
            updates, state = update(typed(g), state, hessian_diag=h if h is None else typed(h))
            assert jax.tree.map(jax.typeof, (updates, state)) == before
            for n, u in enumerate(jax.tree.leaves(updates)):
                of_leaf = None if h is None else h[n]
                bound = rounding(steps, u.dtype, mu_dtype, hyper["b2"]) * sizes[n](np.abs(g[n]), of_leaf)
                assert np.all(np.abs(np.asarray(u, float) - rules[n](g[n], of_leaf)) <= bound), LEAVES[n]
    assert state.last_estimate == max(t for t, h in enumerate(diags, start=1) if h is not None)


def test_the_defaults_are_those_of_the_paper_in_both_functions():
    def defaults(fun):
        found = {name: parameter.default for name, parameter in inspect.signature(fun).parameters.items()}
        return found | {"spatial_average": found["spatial_average"].kind}

    scaling = {"b1": 0.9, "b2": 0.999, "eps": 1e-4, "hessian_power": 1.0, "mu_dtype": None}
    scaling |= {"spatial_average": "none", "update_interval": 1, "dense_start": 10, "hessian_diagonal_fn": None}
    scaling |= {"equilibrate": False}
    assert defaults(oah.scale_by_adahessian) == scaling
    assert defaults(oah.adahessian) == scaling | {"learning_rate": 0.15, "weight_decay": 0.0, "mask": None}
    one_shared_probe = (1, None, "forward_over_reverse")
    for fun in (oah.hutchinson, oah.value_grad_and_hessian_diag):
        found = inspect.signature(fun).parameters
        assert tuple(found[name].default for name in ("num_probes", "axis_name", "hvp")) == one_shared_probe


def test_weight_decay_is_decoupled_and_continues_where_no_step_is_made():
    params = jnp.array([2.0, -4.0])
    tx = oah.adahessian(optax.piecewise_constant_schedule(0.5, {1: 0.5}), weight_decay=0.125)
    for diag in (None, params * jnp.nan):
        state = tx.init(params)
        for rate in (0.5, 0.25):
            updates, state = tx.update(jnp.ones(2), state, params, hessian_diag=diag)
            np.testing.assert_array_equal(updates, -rate * 0.125 * params)


@pytest.mark.parametrize("grad_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("mu_dtype", [None, jnp.float16])
def test_updates_have_the_dtype_of_the_gradients_and_moments_their_own(mu_dtype, grad_dtype):
    params, grads = {"w": jnp.ones(2, jnp.bfloat16)}, {"w": jnp.ones(2, grad_dtype)}
    tx = oah.scale_by_adahessian(mu_dtype=mu_dtype)
    state = tx.init(params)
    for diag in (params, None):
        updates, state = tx.update(grads, state, params, hessian_diag=diag)
        dtypes = [leaf["w"].dtype for leaf in (updates, state.mu, state.nu)]
        assert dtypes == [jnp.dtype(d) for d in (grad_dtype, mu_dtype or jnp.bfloat16, jnp.float32)]
