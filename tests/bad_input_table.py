"""Bad input to every public function: argument by kind of fault, each pair once.

The kinds: type, none (None where it means nothing), bool, dtype, shape, tree, missing and more (other leaves), range,
nan, array and numpy (a number in an array), traced (a value that only a trace knows: an error where the structure of
the program depends on it, accepted where it is a number), and clash (with another argument).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bad_input_calls import KEY, PARAMS, TX, Average
from bad_inputs import (
    FEWER,
    FLAG,
    FUN,
    FUN_RESULT,
    HALF,
    HVP,
    KERNEL,
    LIKE_PARAMS,
    NON_NEGATIVE,
    ONE_KEY,
    OTHER_SHAPE,
    POSITIVE_OR_NONE,
    RATE,
    TEXT,
    TREE,
    UNIT,
    Bad,
    Traced,
    faults,
    integer,
)

import optax_adahessian as oah

BOTH = "adahessian scale_by_adahessian"

TABLE: list[Bad] = [
    *faults(BOTH, "b1", **UNIT, one=(1.0, ValueError, "(=1.0)", "[0, 1)")),
    *faults(BOTH, "b2", **UNIT, one=(jnp.bfloat16(0.999), ValueError, "bfloat16", "hyperparam_dtype")),
    *faults(BOTH, "eps", **NON_NEGATIVE),
    *faults(BOTH, "hessian_power", **UNIT),
    *faults("adahessian", "learning_rate", **RATE),
    *faults("adahessian", "weight_decay", **NON_NEGATIVE),
    *faults(
        "adahessian",
        "mask",
        type=(True, TypeError, "pytree of bools"),
        traced=(Traced(True), TypeError),
        text=("all", TypeError),
    ),
    *faults(BOTH, "update_interval", **integer(1, traced=None)),
    *faults(BOTH, "dense_start", **integer(0, traced=None)),
    *faults(
        BOTH,
        "spatial_average",
        type=("conv", TypeError, "(='conv')", "SpatialAverage.conv('HWIO')"),
        none=(None, TypeError),
        uncalled=(Average.none, TypeError),
        traced=(Traced(1), TypeError),
    ),
    *faults(
        BOTH,
        "time_average",
        type=(None, ValueError, "'rms'", "'mean'"),
        range=("median", ValueError, "(='median')"),
        traced=(Traced(1), ValueError),
    ),
    *faults(BOTH, "nesterov", **FLAG),
    *faults("adahessian", "max_step", **POSITIVE_OR_NONE),
    *faults(
        BOTH,
        "mu_dtype",
        type=("half?", TypeError, "(='half?')", "floating"),
        dtype=(jnp.int32, TypeError, "int32", "floating"),
        number=(16, TypeError),
        traced=(Traced(1), TypeError),
    ),
    *faults(
        BOTH,
        "hessian_diagonal_fn",
        type=(3, TypeError, "(=3)"),
        uncalled=(oah.hutchinson, TypeError, "called"),
        traced=(Traced(1), TypeError),
    ),
    *faults("adahessian.init scale_by_adahessian.init", "params", **TREE),
    *faults("adahessian.update scale_by_adahessian.update", "updates", **LIKE_PARAMS, **TREE),
    *faults(
        "scale_by_adahessian.update",
        "state",
        type=(3, TypeError),
        none=(None, TypeError),
        other=(optax.adam(0.1).init(PARAMS), TypeError),
        chain=(TX.init(PARAMS), TypeError),
    ),
    *faults(
        "adahessian.update",
        "params",
        none=(None, ValueError, "(=None)", "update"),
        shape=(OTHER_SHAPE, ValueError),
        tree=(FEWER, ValueError),
    ),
    *faults("adahessian.update hutchinson.update", "obj_fn", **FUN, **FUN_RESULT),
    *faults(
        "scale_by_adahessian.update", "hessian_diag", **{k: v for k, v in LIKE_PARAMS.items() if k != "none"}, **TREE
    ),
    *faults("hutchinson.update", "params", none=(None, ValueError), **TREE),
    *faults(
        "hutchinson.update",
        "state",
        type=(3, TypeError),
        none=(None, TypeError),
        other=(optax.adam(0.1).init(PARAMS), TypeError),
    ),
    *faults("value_grad_and_hessian_diag hessian_vector_product exact_hessian_diag", "fun", **FUN),
    *faults(
        "estimate hessian_vector_product exact_hessian_diag", "fun", **{f"result {k}": v for k, v in FUN_RESULT.items()}
    ),
    *faults("value_grad_and_hessian_diag", "has_aux", **FLAG),
    *faults("value_grad_and_hessian_diag hutchinson", "num_probes", **integer(1)),
    *faults(
        "value_grad_and_hessian_diag hutchinson",
        "axis_name",
        type=(3, TypeError),
        traced=(Traced(3), TypeError),
        tuple=((3,), TypeError),
    ),
    *faults("estimate", "axis_name", range=("data", ValueError, "(='data')", "not bound")),
    *faults("value_grad_and_hessian_diag hutchinson hessian_vector_product", "hvp", **HVP),
    *faults("value_grad_and_hessian_diag hutchinson", "unroll", **FLAG),
    *faults("estimate rademacher_like", "key", **ONE_KEY),
    *faults(
        "hutchinson",
        "key",
        type=("seed", TypeError, "(='seed')"),
        none=(None, TypeError),
        dtype=(0.5, TypeError),
        shape=(jax.random.split(KEY), TypeError, "keys[i]"),
        bool=(True, TypeError),
        traced=(Traced(3), TypeError),
    ),
    *faults("hutchinson", "independent_probes", **FLAG, clash=(True, ValueError, "`axis_name`")),
    *faults("estimate hessian_vector_product exact_hessian_diag", "params", **TREE),
    *faults(
        "hessian_vector_product",
        "vector",
        **LIKE_PARAMS,
        dtype=(HALF, ValueError, "bfloat16", "dtype of its"),
        type=(TEXT, TypeError),
    ),
    *faults("rademacher_like", "tree", **TREE),
    *faults(
        "refresh_due",
        "step",
        **(
            integer(0, traced=None)
            | {"shape": (jnp.ones(2), TypeError, "float32"), "array": (jnp.int32(-3), ValueError)}
        ),
    ),
    *faults("refresh_due", "update_interval", **integer(1, traced=None)),
    *faults("refresh_due", "dense_start", **integer(0, traced=None)),
    *faults("SpatialAverage.conv SpatialAverage.rows SpatialAverage.lengths", "kernel", **KERNEL),
    *faults(
        "SpatialAverage.conv SpatialAverage.rows SpatialAverage.lengths SpatialAverage.custom SpatialAverage",
        "signed",
        **FLAG,
    ),
    *faults("SpatialAverage.lengths", "n", **integer(1)),
    *faults("SpatialAverage.custom", "fn", **FUN),
    *faults("SpatialAverage", "block_shape_fn", **FUN),
    *faults("SpatialAverage", "name", type=(3, TypeError)),
    *faults("SpatialAverage.describe", "params", type=(TEXT, TypeError, "['layer']['kernel']")),
    *faults("dense_hessian double_backward_product hutchinson_samples estimate_report trajectory", "fun", **FUN),
    *faults(
        "dense_hessian double_backward_product hutchinson_samples",
        "fun",
        **{f"result {k}": v for k, v in FUN_RESULT.items() if k == "shape"},
    ),
    *faults("dense_hessian double_backward_product hutchinson_samples estimate_report", "params", **TREE),
    *faults("double_backward_product", "vector", **LIKE_PARAMS),
    *faults("hutchinson_samples estimate_report", "key", **ONE_KEY),
    *faults("hutchinson_samples", "num_samples", **integer(1)),
    *faults("estimate_report", "max_probes", **integer(1)),
    *faults("estimate_report", "repetitions", **integer(1)),
    *faults("error_against_probes", "samples", type=("x", ValueError), shape=(jnp.ones(4), ValueError)),
    *faults("error_against_probes", "diag", shape=(jnp.ones(3), ValueError), type=("x", ValueError)),
    *faults(
        "error_against_probes predicted_error",
        "counts",
        type=(3, TypeError),
        dtype=((1.5,), TypeError),
        range=((0,), ValueError),
        traced=(Traced(3), TypeError),
    ),
    *faults("error_against_probes", "counts", clash=((5,), ValueError)),
    *faults(
        "predicted_error row_norms",
        "hessian",
        type=("x", ValueError),
        shape=(jnp.ones((2, 3)), ValueError),
        rank=(jnp.ones(2), ValueError),
    ),
    *faults("row_norms", "num_probes", **integer(1)),
    *faults("parse_expression", "text", type=(3, TypeError), none=(None, TypeError), list=([1], TypeError)),
    *faults("newton", "learning_rate", **RATE),
    *faults("newton.update", "obj_fn", type=(3, TypeError), missing=(None, TypeError)),
    *faults("newton.update", "params", none=(None, ValueError)),
    *faults(
        "recorded_probes",
        "probes",
        type=("x", TypeError),
        shape=(np.ones((2, 2)), ValueError),
        range=(np.zeros((1, 1, 2)), ValueError),
    ),
    *faults("recorded_probes.update", "obj_fn", type=(3, TypeError), missing=(None, TypeError)),
    *faults("recorded_probes.update", "params", none=(None, ValueError), shape=(jnp.ones(3), ValueError)),
    *faults("trajectory", "tx", type=(3, TypeError), traced=(Traced(3), TypeError)),
    *faults("trajectory", "start", type=("x", TypeError), dtype=(1j, TypeError)),
    *faults("trajectory", "steps", **integer(1)),
    *faults("trajectory", "key", **{k: v for k, v in ONE_KEY.items() if k != "none"}),
    *faults("finite_part", "path", type=(3, TypeError)),
]
