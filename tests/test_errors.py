"""Every mistake gets a ValueError or TypeError that names the argument and its value, the rule and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah

PARAMS = {"layer": {"kernel": jnp.ones((2, 3))}, "bias": jnp.ones(3)}
KEY = jax.random.key(0)
Average = oah.SpatialAverage


def loss_fn(params):
    return jnp.sum(params["layer"]["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)


def update(tx=None, params=PARAMS, **feed):
    tx = oah.adahessian() if tx is None else tx
    return tx.update(PARAMS, tx.init(PARAMS), params, **feed)


def estimate(*args, loss=loss_fn, **options):
    return oah.value_grad_and_hessian_diag(loss, **options)(*(args or (KEY, PARAMS)))


OTHER_SHAPE = {"layer": {"kernel": jnp.ones((3, 2))}, "bias": jnp.ones(3)}
FEWER = {"layer": {"kernel": jnp.ones((2, 3))}}
HALF = jax.tree.map(jnp.bfloat16, PARAMS)
MORE = PARAMS | {"extra": jnp.ones(1)}

# What is called, the error's type, and the parts of its message: the argument, the value, the remedy.
MISTAKES = {
    "b1 = 1": (lambda: oah.adahessian(b1=1.0), ValueError, ["`b1` (=1.0)", "[0, 1)"]),
    "b1 < 0": (lambda: oah.scale_by_adahessian(b1=-0.1), ValueError, ["`b1` (=-0.1)"]),
    "b2 > 1": (lambda: oah.adahessian(b2=1.5), ValueError, ["`b2` (=1.5)", "[0, 1)"]),
    "b2 NaN": (lambda: oah.adahessian(b2=float("nan")), ValueError, ["`b2` (=nan)"]),
    "b2 array": (lambda: oah.adahessian(b2=jnp.float32(1.5)), ValueError, ["`b2` (=1.5)"]),
    "b2 numpy": (lambda: oah.adahessian(b2=np.float64(1.5)), ValueError, ["`b2` (=1.5)"]),
    "b2 rounded": (lambda: oah.adahessian(b2=jnp.bfloat16(0.999)), ValueError, ["bfloat16", "hyperparam_dtype"]),
    "b1 text": (lambda: oah.adahessian(b1="0.9"), TypeError, ["`b1` (='0.9')", "number"]),
    "b1 vector": (lambda: oah.adahessian(b1=jnp.ones(2)), TypeError, ["`b1`", "0-d"]),
    "b1 bool": (lambda: oah.adahessian(b1=True), TypeError, ["`b1` (=True)"]),
    "eps < 0": (lambda: oah.adahessian(eps=-1e-8), ValueError, ["`eps` (=-1e-08)", "at least 0"]),
    "eps inf": (lambda: oah.adahessian(eps=float("inf")), ValueError, ["`eps` (=inf)", "finite"]),
    "decay < 0": (lambda: oah.adahessian(weight_decay=-0.1), ValueError, ["`weight_decay` (=-0.1)"]),
    "power > 1": (lambda: oah.adahessian(hessian_power=1.5), ValueError, ["`hessian_power` (=1.5)", "[0, 1]"]),
    "power < 0": (lambda: oah.adahessian(hessian_power=-1), ValueError, ["`hessian_power` (=-1)"]),
    "rate text": (lambda: oah.adahessian("fast"), TypeError, ["`learning_rate` (='fast')"]),
    "interval 0": (lambda: oah.adahessian(update_interval=0), ValueError, ["`update_interval` (=0)", "at least 1"]),
    "interval 2.5": (lambda: oah.adahessian(update_interval=2.5), TypeError, ["`update_interval` (=2.5)", "integer"]),
    "interval array": (lambda: oah.adahessian(update_interval=jnp.int32(-3)), ValueError, ["`update_interval` (=-3)"]),
    "dense < 0": (lambda: oah.adahessian(dense_start=-1), ValueError, ["`dense_start` (=-1)", "at least 0"]),
    "probes 0": (lambda: oah.hutchinson(num_probes=0), ValueError, ["`num_probes` (=0)", "at least 1"]),
    "probes 1.5": (lambda: estimate(num_probes=1.5), TypeError, ["`num_probes` (=1.5)", "integer"]),
    "probes traced": (lambda: jax.jit(oah.hutchinson)(3), TypeError, ["`num_probes`", "Python integer"]),
    "mistyped": (lambda: oah.adahessian(learning_rat=0.1), TypeError, ["learning_rat"]),
    "average text": (lambda: oah.adahessian(spatial_average="conv"), TypeError, ["`spatial_average` (='conv')"]),
    "average uncalled": (lambda: oah.adahessian(spatial_average=Average.none), TypeError, ["`spatial_average`"]),
    "estimator uncalled": (lambda: oah.adahessian(hessian_diagonal_fn=oah.hutchinson), TypeError, ["called"]),
    "mu_dtype": (lambda: oah.adahessian(mu_dtype=jnp.int32), TypeError, ["`mu_dtype`", "int32", "floating"]),
    "mu_dtype text": (lambda: oah.adahessian(mu_dtype="half?"), TypeError, ["`mu_dtype` (='half?')"]),
    "kernel string": (lambda: Average.conv("NHWC"), ValueError, ["`kernel` (='NHWC')", "'HWIO'", "'OIHW'"]),
    "kernel order": (lambda: Average.rows("IOHW"), ValueError, ["`kernel` (='IOHW')"]),
    "kernel none": (lambda: Average.rows(None), ValueError, ["`kernel` (=None)"]),
    "kernel list": (lambda: Average.rows(["HWIO"]), ValueError, ["`kernel` (=['HWIO'])"]),
    "length 0": (lambda: Average.lengths(0, "HWIO"), ValueError, ["`n` (=0)"]),
    "length first": (lambda: Average.lengths("HWIO", 32), TypeError, ["`n` (='HWIO')"]),
    "signed": (lambda: Average.conv("HWIO", signed="yes"), TypeError, ["`signed` (='yes')"]),
    "custom": (lambda: Average.custom((1, 1)), TypeError, ["`fn` (=(1, 1))"]),
    "custom block": (lambda: Average.custom(lambda p, x: 3).describe(PARAMS), TypeError, ["['bias']", "block 3"]),
    "neither": (lambda: update(), ValueError, ["Neither", "obj_fn=lambda p: loss_fn(p, batch)", "hessian_diag=diag"]),
    "both": (lambda: update(obj_fn=loss_fn, hessian_diag=PARAMS), ValueError, ["`hessian_diag` were both given"]),
    "both, None": (lambda: update(obj_fn=loss_fn, hessian_diag=None), ValueError, ["`hessian_diag=None` were both"]),
    "not callable": (lambda: update(obj_fn=3.0), TypeError, ["`obj_fn` (=3.0)", "loss_fn(p, batch)"]),
    "not scalar": (lambda: update(obj_fn=lambda p: p["bias"]), TypeError, ["`obj_fn` returned float32[3]", "mean"]),
    "tuple": (lambda: update(obj_fn=lambda p: (loss_fn(p), 1)), TypeError, ["`obj_fn` returned a tuple", "has_aux"]),
    "integer loss": (lambda: update(obj_fn=lambda p: 1), TypeError, ["`obj_fn` returned", "real scalar"]),
    "complex loss": (lambda: update(obj_fn=lambda p: 1j * loss_fn(p)), TypeError, ["complex64[]", "real scalar"]),
    "None loss": (lambda: update(obj_fn=lambda p: None), TypeError, ["`obj_fn` returned", "NoneType"]),
    "no pair": (lambda: estimate(has_aux=True), TypeError, ["`fun` returned float32[]", "pair (loss, aux)"]),
    "has_aux": (lambda: estimate(has_aux=1), TypeError, ["`has_aux` (=1)"]),
    "no params": (lambda: update(params=None, obj_fn=loss_fn), ValueError, ["`params` (=None)", "update"]),
    "diag shape": (lambda: update(hessian_diag=OTHER_SHAPE), ValueError, ["['layer']['kernel']", "(3, 2)", "(2, 3)"]),
    "diag missing": (lambda: update(hessian_diag=FEWER), ValueError, ["hessian_diag['bias']", "missing"]),
    "diag more": (lambda: update(hessian_diag=MORE), ValueError, ["hessian_diag['extra']", "no counterpart"]),
    "diag list": (lambda: update(hessian_diag=[1.0]), ValueError, ["hessian_diag"]),
    "diag int": (lambda: update(hessian_diag=jax.tree.map(jnp.int32, PARAMS)), TypeError, ["hessian_diag", "int32"]),
    "grads": (lambda: oah.adahessian().update(FEWER, oah.adahessian().init(PARAMS)), ValueError, ["Neither"]),
    "integer leaf": (lambda: oah.adahessian().init({"n": jnp.arange(3)}), TypeError, ["params['n']", "int32"]),
    "complex leaf": (lambda: oah.adahessian().init({"c": jnp.ones(2) * 1j}), TypeError, ["params['c']", "complex64"]),
    "text leaf": (lambda: oah.adahessian().init({"s": "text"}), TypeError, ["params['s']", "'text'"]),
    "estimate int": (lambda: estimate(KEY, {"n": jnp.arange(3)}), TypeError, ["params['n']", "int32"]),
    "key int": (lambda: estimate(0, PARAMS), TypeError, ["`key` (=0)", "jax.random.key(0)"]),
    "key none": (lambda: estimate(None, PARAMS), TypeError, ["`key` (=None)"]),
    "keys": (lambda: estimate(jax.random.split(KEY), PARAMS), TypeError, ["`key`", "keys[i]"]),
    "key float": (lambda: oah.rademacher_like(jnp.ones(2), PARAMS), TypeError, ["`key` (=float32[2])"]),
    "seed text": (lambda: oah.hutchinson(key="seed"), TypeError, ["`key` (='seed')"]),
    "hvp": (lambda: oah.hutchinson(hvp="forward"), ValueError, ["`hvp` (='forward')", "'reverse_over_reverse'"]),
    "own probes": (
        lambda: oah.hutchinson(independent_probes=True),
        ValueError,
        ["`independent_probes`", "`axis_name`"],
    ),
    "axis": (lambda: estimate(axis_name="data"), ValueError, ["`axis_name` (='data')", "not bound"]),
    "loss": (lambda: oah.value_grad_and_hessian_diag("loss"), TypeError, ["`fun` (='loss')"]),
    "vector": (lambda: oah.hessian_vector_product(loss_fn, PARAMS, FEWER), ValueError, ["vector['bias']", "missing"]),
    "vector dtype": (
        lambda: oah.hessian_vector_product(loss_fn, PARAMS, HALF),
        ValueError,
        ["bfloat16", "dtype of its"],
    ),
    "exact": (lambda: oah.exact_hessian_diag(loss_fn, {"n": 1}), TypeError, ["params['n']", "int32"]),
    "step": (lambda: oah.refresh_due(-1, 3), ValueError, ["`step` (=-1)"]),
    "step 1.5": (lambda: oah.refresh_due(1.5, 3), TypeError, ["`step` (=1.5)"]),
    "hutchinson": (lambda: update(tx=oah.hutchinson()), TypeError, ["`obj_fn` (=None)"]),
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
