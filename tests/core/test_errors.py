"""Mistakes that would pass silently, or fail with an error that names nothing the user wrote, get one that does."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah

PARAMS = {"layer": {"kernel": jnp.ones((2, 3))}, "bias": jnp.ones(3)}
FEWER = {"layer": {"kernel": jnp.ones((2, 3))}}
MORE = PARAMS | {"extra": jnp.ones(1)}
OTHER_SHAPE = {"layer": {"kernel": jnp.ones((3, 2))}, "bias": jnp.ones(3)}
INTEGERS = jax.tree.map(jnp.int32, PARAMS)
COMPLEX = jax.tree.map(jnp.complex64, PARAMS)
TEXT = PARAMS | {"bias": "text"}
KEY = jax.random.key(0)
NAN, INF = float("nan"), float("inf")
Average = oah.SpatialAverage


def loss_fn(params):
    return jnp.sum(params["layer"]["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)


TX, SCALING, ROWS = oah.adahessian(), oah.scale_by_adahessian(), Average.rows("HWIO")
ON_LAYER, ON_BIAS = (optax.masked(TX, {"layer": layer, "bias": not layer}) for layer in (True, False))
FLAT = optax.flatten(TX)


def feed(tx=TX, updates=PARAMS, params=PARAMS, **feeds):
    return lambda: tx.update(updates, tx.init(params), params, **feeds)


def continued(written, reader):
    """A step without an estimate from the state that another configuration wrote."""
    state = oah.scale_by_adahessian(**written).init(PARAMS)
    return lambda: oah.scale_by_adahessian(**reader).update(PARAMS, state, hessian_diag=None)


def init(params):
    return lambda: TX.init(params)


def estimate(fun=loss_fn, key=KEY, params=PARAMS, **options):
    return lambda: oah.value_grad_and_hessian_diag(fun, **options)(key, params)


def signs(leaf):
    return lambda: oah.rademacher_like(KEY, {"w": leaf})


def scaled(scale):
    """An estimate with scales, for parameters of shape (2,)."""
    return lambda: oah.value_grad_and_hessian_diag(jnp.sum)(KEY, jnp.ones(2), probe_scale=scale)


def scales(params, tx=TX):
    return lambda: oah.probe_scale(tx.init(PARAMS), params)


def product(params, vector):
    return lambda: oah.hessian_vector_product(loss_fn, params, vector)


def described(block):
    return lambda: Average.custom(block).describe(PARAMS)


def if_traced(call):
    return lambda: jax.jit(lambda step: 1 if call(step, 10) else 0)(3)


# Arguments of a factory: values, the error, parts of the message besides the argument's name.
NUMBER = [
    (["0.9"], TypeError, "(='0.9')", "one real number"),
    ([None, jnp.ones(2), (0.5,)], TypeError, "one real number"),
    ([-0.1, np.float64(-0.1), jnp.float32(-0.1)], ValueError, "(=-0.1", "in [0, "),
    ([NAN], ValueError, "(=nan)"),
]
UNIT = [*NUMBER, ([1.0, 1], ValueError, "[0, 1)"), ([jnp.bfloat16(0.999)], ValueError, "bfloat16", "hyperparam_dtype")]
INTEGER = [
    (["3"], TypeError, "(='3')", "integer of at least"),
    ([None, 2.5], TypeError, "integer of at least"),
    ([jnp.arange(2)], TypeError, "one real number"),
    ([-1, np.int64(-1), jnp.int32(-1)], ValueError, "(=-1)", "must be in ["),
]
HVP = [("hvp", [None, "forward"], ValueError, "'forward_over_reverse' or 'reverse_over_reverse'")]
PROBES = [("num_probes", *row) for row in [*INTEGER, ([0], ValueError, "in [1, inf)")]]
KERNEL = [("kernel", ["NHWC", "IOHW", None, ["HWIO"]], ValueError, "'HWIO'", "'OIHW'", "Flax")]
INTERVAL = [("update_interval", *row) for row in [*INTEGER, ([0], ValueError, "(=0)", "in [1, inf)")]]
DENSE = [("dense_start", *row) for row in INTEGER]
RULE = [
    *[(decay, *row) for decay in ("b1", "b2") for row in UNIT],
    *[("eps", *row) for row in [*NUMBER, ([INF], ValueError, "[0, inf)")]],
    *[("hessian_power", *row) for row in [*NUMBER, ([1.5], ValueError, "[0, 1]")]],
    *INTERVAL,
    *DENSE,
    ("spatial_average", ["conv", None, Average.none], TypeError, "SpatialAverage.conv('HWIO')"),
    ("hessian_diagonal_fn", [3, oah.hutchinson], TypeError, "GradientTransformation", "hutchinson(num_probes=4)"),
]
FUNCTIONS = [
    (oah.scale_by_adahessian, RULE),
    (oah.adahessian, [*RULE, *[("weight_decay", *row) for row in NUMBER]]),
    (oah.adaptive_nesterov, [("b1", *row) for row in UNIT]),
    (partial(oah.value_grad_and_hessian_diag, loss_fn), PROBES),
    (lambda hvp: estimate(hvp=hvp)(), HVP),
    (lambda hvp: feed(oah.hutchinson(hvp=hvp), obj_fn=loss_fn)(), HVP),
    (oah.hutchinson, PROBES),
    (partial(oah.hessian_vector_product, loss_fn, PARAMS, PARAMS), HVP),
    (partial(oah.refresh_due, 0), INTERVAL),
    (partial(oah.refresh_due, 0, 3), DENSE),
    (partial(oah.refresh_key, KEY, 0), INTERVAL),
    (Average.conv, KERNEL),
    (Average.rows, KERNEL),
    (partial(Average.lengths, 2), KERNEL),
    (partial(Average.lengths, kernel="HWIO"), [("n", *row) for row in [*INTEGER, ([0], ValueError)]]),
    (
        partial(Average, "outputs", kernel="HWIO"),
        [("averaged", [{("conv", "output")}, {("table", "tokens")}], ValueError, "'spatial', 'inputs', 'outputs'")],
    ),
    (Average.custom, [("fn", [None, (1, 2)], TypeError, "Callable", "lambda path, leaf")]),
]
ARGUMENTS = [(function, *row[:3], row[3:]) for function, rows in FUNCTIONS for row in rows]


@pytest.mark.parametrize(("function", "argument", "values", "error", "parts"), ARGUMENTS)
def test_a_bad_argument_is_named_with_its_value_and_the_rule(function, argument, values, error, parts):
    for value in values:
        with pytest.raises(error) as raised:
            function(**{argument: value})
        assert type(raised.value) is error
        for part in (f"`{argument}` (=", *parts):
            assert part in str(raised.value)


# A call, the error, and parts of its message.
MISTAKES = {
    "a mistyped option": (lambda: oah.adahessian(learning_rat=0.1), TypeError, "learning_rat"),
    # The parameters and the loss.
    "integer parameters": (init(INTEGERS), TypeError, "`params['bias']` … int32 … optax.masked"),
    "complex parameters": (init(COMPLEX), TypeError, "complex64 … real and imaginary"),
    "text among parameters": (init(TEXT), TypeError, "`params['bias']` (str"),
    "integers to estimate": (estimate(params=INTEGERS), TypeError, "`params['bias']` … int32"),
    "integers in a product": (product(INTEGERS, INTEGERS), TypeError, "`params['bias']`"),
    "no function": (estimate(fun=3.0), TypeError, "`fun` (=3.0) … lambda params: loss_fn(params, batch)"),
    "no obj_fn": (feed(obj_fn=3.0), TypeError, "`obj_fn` (=3.0) … lambda params"),
    "a loss per example": (estimate(fun=lambda p: p["bias"]), TypeError, "scalar-output functions … shape: (3,)"),
    "a complex loss": (estimate(fun=lambda p: 1j * loss_fn(p)), TypeError, "real-valued outputs … complex64"),
    "a pair of obj_fn": (feed(obj_fn=lambda p: (loss_fn(p), 1)), TypeError, "a tuple … loss_fn(p, batch)[0]"),
    "no pair": (estimate(fun=lambda p: p["bias"][:2], has_aux=True), TypeError, "two-element tuple"),
    "a tuple for a list": (product([1.0], (1.0,)), TypeError, "same tree structure"),
    "a vector of fewer leaves": (product(PARAMS, FEWER), ValueError, "`vector['bias']` is absent"),
    "integers to draw signs for": (signs(jnp.arange(3)), TypeError, "`tree['w']` … int32"),
    "complex numbers to draw signs for": (signs(jnp.ones(2, jnp.complex64)), TypeError, "`tree['w']` … complex64"),
    "a Python integer to draw a sign for": (signs(1), TypeError, "`tree['w']`"),
    "a truth value to draw a sign for": (signs(True), TypeError, "`tree['w']`"),
    # Scales of probes.
    "scales of another shape": (scaled(jnp.ones(3)), ValueError, "`probe_scale` is of shape (3,) … of shape (2,)"),
    "scales of another structure": (scaled([jnp.ones(2)]), ValueError, "`probe_scale` is absent … of shape (2,)"),
    "complex scales": (scaled(jnp.array([1j, 1.0])), TypeError, "`probe_scale` … complex64"),
    "scales for no parameters": (scales(None), ValueError, "`params` (=None) must be given"),
    "scales from Adam": (scales(PARAMS, optax.adam(0.1)), ValueError, "holds no state of `adahessian`"),
    "scales for fewer leaves": (scales(FEWER), ValueError, "symmetric difference on key sets"),
    "scales for other shapes": (scales(OTHER_SHAPE), ValueError, "`params` are not the parameters of `state`"),
    "equilibration of probes made outside": (
        feed(oah.adahessian(equilibrate=True), hessian_diag=PARAMS),
        ValueError,
        "pass `probe_scale=probe_scale(state, params)`",
    ),
    "equilibration by an estimator that has no scales": (
        lambda: oah.adahessian(equilibrate=True, hessian_diagonal_fn=optax.identity()),
        ValueError,
        "`update` takes `probe_scale`, like `hutchinson`",
    ),
    # Keys and steps.
    "a seed": (estimate(key=0), TypeError, "invalid PRNG key data … Got 0"),
    "several keys": (estimate(key=jax.random.split(KEY)), ValueError, "a single key … key array of shape (2,)"),
    "a traced step": (if_traced(oah.refresh_due), TypeError, "boolean conversion of traced array"),
    # The feed.
    "neither": (feed(), ValueError, "Neither … obj_fn=lambda p: loss_fn(p, batch) … hessian_diag=hessian_diag"),
    "both": (feed(obj_fn=loss_fn, hessian_diag=PARAMS), ValueError, "`hessian_diag` were both given"),
    "no parameters": (lambda: TX.update(PARAMS, TX.init(PARAMS), obj_fn=loss_fn), ValueError, "`params` (=None)"),
    "no loss for the estimator": (feed(oah.hutchinson()), TypeError, "`obj_fn` (=None)"),
    "obj_fn of a masked part": (feed(ON_LAYER, obj_fn=loss_fn), ValueError, "optax.masked … pass `hessian_diag="),
    # The diagonal.
    "another shape": (feed(hessian_diag=OTHER_SHAPE), ValueError, "['kernel']` is of shape (3, 2) … of shape (2, 3)"),
    "fewer leaves": (feed(hessian_diag=FEWER), ValueError, "`hessian_diag['bias']` is absent … of shape (3,)"),
    "more leaves": (feed(hessian_diag=MORE), ValueError, "`hessian_diag['extra']` is of shape (1,) … is absent"),
    "integers as diagonal": (feed(hessian_diag=INTEGERS), TypeError, "`hessian_diag['bias']` … int32"),
    "a part instead of all": (feed(ON_BIAS, hessian_diag=FEWER), ValueError, "['bias']` is absent"),
    "a tree beside a vector": (feed(FLAT, hessian_diag=PARAMS), ValueError, "the parameter is of shape (9,)"),
    "a momentum of integers": (lambda: oah.adaptive_nesterov().init(INTEGERS), TypeError, "`params['bias']` … int32"),
    # The state.
    "a state without momentum": (continued({"b1": 0}, {"b1": 0.9}), ValueError, "`b1=0` … tx.init(params)"),
    "a state with momentum": (continued({"b1": 0.9}, {"b1": 0}), ValueError, "`b1>0` … tx.init(params)"),
    "a state of rows": (continued({"spatial_average": ROWS}, {}), ValueError, "['kernel']` … (1, 3) … (2, 3)"),
    "a state for rows": (continued({}, {"spatial_average": ROWS}), ValueError, "['kernel']` … (2, 3) … (1, 3)"),
    "a state of dicts": (
        lambda: SCALING.update(PARAMS, SCALING.init(PARAMS)._asdict(), hessian_diag=None),
        TypeError,
        "`state` (a dict) … `ScaleByAdaHessianState` … tx.init(params)",
    ),
    # Blocks.
    "no block": (described(lambda p, x: 3), ValueError, "['bias'] … (3,) … block 3"),
    "a block of another rank": (described(lambda p, x: (1, 1, 1)), ValueError, "the block (1, 1, 1)"),
    "blocks with a rest": (described(lambda p, x: (2,) * x.ndim), ValueError, "block (2,) … divides the axis"),
    "empty blocks": (described(lambda p, x: (0,) * x.ndim), ValueError, "the block (0,)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    call, error, parts = MISTAKES[mistake]
    with pytest.raises(error) as raised:
        call()
    for part in parts.split(" … "):
        assert part in str(raised.value)


@pytest.mark.parametrize("wrong", [{"b2": 1.5}, {"update_interval": 0}, {"eps": -1.0}])
def test_injected_values_are_checked_where_they_are_concrete(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        optax.inject_hyperparams(oah.adahessian)(learning_rate=0.1, **wrong).init(PARAMS)


def test_traced_values_pass():
    def traced(number, interval):
        hyper = dict.fromkeys(("b1", "b2", "eps", "hessian_power", "weight_decay"), number)
        tx = oah.adahessian(number, **hyper, update_interval=interval, dense_start=interval)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS, obj_fn=loss_fn)[0]

    assert jnp.all(jnp.isfinite(jax.jit(traced)(0.9, 2)["bias"]))
