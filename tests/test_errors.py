"""Every mistake gets a ValueError or TypeError that names the argument and its value, the rule and the remedy."""

import inspect

import jax
import jax.numpy as jnp
import optax
import pytest
from bad_input_calls import CALLS, KEY, PARAMS, Average, loss_fn
from bad_input_table import TABLE
from bad_inputs import FEWER, Traced

import optax_adahessian as oah
from optax_adahessian import analysis


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.function}-{bad.argument}-{bad.kind}")
def test_bad_input_is_named(bad):
    function, good = CALLS[bad.function]

    def call(value):
        function(**good | {bad.argument: value})

    if isinstance(bad.value, Traced):
        call, value = jax.jit(call), bad.value.value
    else:
        value = bad.value
    if bad.error is None:
        call(value)
        return
    with pytest.raises(bad.error) as raised:
        call(value)
    assert type(raised.value) is bad.error
    for part in (f"`{bad.argument}", *bad.parts):
        assert part in str(raised.value)


def test_every_pair_is_in_the_table_once():
    pairs = [bad[:3] for bad in TABLE]
    assert len(pairs) == len(set(pairs))


def test_every_argument_of_every_public_function_is_in_the_table():
    seen = {bad[:2] for bad in TABLE}
    for module in (oah, analysis):
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                for argument in inspect.signature(getattr(module, name)).parameters:
                    assert (name, argument) in seen


def update(tx=None, **feed):
    tx = oah.adahessian() if tx is None else tx
    return tx.update(PARAMS, tx.init(PARAMS), PARAMS, **feed)


def estimate(**options):
    return oah.value_grad_and_hessian_diag(loss_fn, **options)(KEY, PARAMS)


# What is no fault of one argument alone: what is called, the error's type, and parts of its message.
MISTAKES = {
    "mistyped": (lambda: oah.adahessian(learning_rat=0.1), TypeError, ["learning_rat"]),
    "custom block": (lambda: Average.custom(lambda p, x: 3).describe(PARAMS), TypeError, ["['bias']", "block 3"]),
    "neither": (lambda: update(), ValueError, ["Neither", "obj_fn=lambda p: loss_fn(p, batch)", "hessian_diag=diag"]),
    "both": (lambda: update(obj_fn=loss_fn, hessian_diag=PARAMS), ValueError, ["`hessian_diag` were both given"]),
    "both, None": (lambda: update(obj_fn=loss_fn, hessian_diag=None), ValueError, ["`hessian_diag=None` were both"]),
    "no pair": (lambda: estimate(has_aux=True), TypeError, ["`fun` returned float32[]", "pair (loss, aux)"]),
    "grads": (lambda: oah.adahessian().update(FEWER, oah.adahessian().init(PARAMS)), ValueError, ["Neither"]),
    "hutchinson": (lambda: update(tx=oah.hutchinson()), TypeError, ["`obj_fn` (=None)"]),
    "custom size": (
        lambda: Average.custom(lambda p, x: (1.5,) * x.ndim).describe(PARAMS),
        TypeError,
        ["['bias']", "(1.5,)", "tuple of integers"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    call, error, parts = MISTAKES[mistake]
    with pytest.raises(error) as raised:
        call()
    for part in parts:
        assert part in str(raised.value)


def test_gradients_of_other_parameters_are_refused():
    tx = oah.adahessian()
    with pytest.raises(ValueError, match=r"updates\['bias'\]"):
        tx.update(FEWER, tx.init(PARAMS), FEWER, hessian_diag=FEWER)


@pytest.mark.parametrize("wrong", [{"b2": 1.5}, {"update_interval": 0}, {"eps": -1.0}])
def test_injected_values_are_checked_where_they_are_concrete(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        optax.inject_hyperparams(oah.adahessian)(learning_rate=0.1, **wrong).init(PARAMS)


def test_traced_values_pass():
    def traced(b2, interval):
        tx = oah.scale_by_adahessian(b2=b2, update_interval=interval)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS, obj_fn=loss_fn)[0]

    assert jnp.all(jnp.isfinite(jax.jit(traced)(0.9, 2)["bias"]))


def test_a_diagonal_of_the_wrong_structure_beside_masked_parameters():
    tx = optax.masked(oah.adahessian(), {"layer": True, "bias": False})
    with pytest.raises(ValueError, match="Pass the whole diagonal"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, hessian_diag=FEWER)


@pytest.mark.parametrize(("diag", "remedy"), [(PARAMS, "ravel_pytree"), (FEWER, "must have the structure")])
def test_a_tree_beside_one_vector_is_to_be_ravelled_if_it_has_as_many_numbers(diag, remedy):
    tx = optax.flatten(oah.adahessian())
    with pytest.raises(ValueError, match=f"`hessian_diag.*{remedy}"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, hessian_diag=diag)
