"""Every public function with arguments that it accepts, for the table of bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah
from optax_adahessian import analysis

PARAMS = {"layer": {"kernel": jnp.ones((2, 3))}, "bias": jnp.ones(3)}
KEY = jax.random.key(0)
Average = oah.SpatialAverage


def loss_fn(params):
    return jnp.sum(params["layer"]["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)


TX = oah.adahessian()
SCALE = oah.scale_by_adahessian()
ESTIMATOR = oah.hutchinson()
VECTOR = jnp.ones(2)
SQUARE = lambda w: jnp.sum(w**2)
NEWTON = analysis.newton()
RECORDED = analysis.recorded_probes(jnp.ones((1, 1, 2)))

CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "adahessian": (oah.adahessian, {}),
    "adahessian.init": (lambda params: TX.init(params), {"params": PARAMS}),
    "adahessian.update": (
        TX.update,
        {"updates": PARAMS, "state": TX.init(PARAMS), "params": PARAMS, "obj_fn": loss_fn},
    ),
    "scale_by_adahessian": (oah.scale_by_adahessian, {}),
    "scale_by_adahessian.init": (lambda params: SCALE.init(params), {"params": PARAMS}),
    "scale_by_adahessian.update": (
        SCALE.update,
        {"updates": PARAMS, "state": SCALE.init(PARAMS), "params": PARAMS, "hessian_diag": PARAMS},
    ),
    "value_grad_and_hessian_diag": (oah.value_grad_and_hessian_diag, {"fun": loss_fn}),
    "estimate": (
        lambda key, params, fun=loss_fn, **options: oah.value_grad_and_hessian_diag(fun, **options)(key, params),
        {"key": KEY, "params": PARAMS},
    ),
    "hutchinson": (oah.hutchinson, {}),
    "hutchinson.update": (
        ESTIMATOR.update,
        {"updates": PARAMS, "state": ESTIMATOR.init(PARAMS), "params": PARAMS, "obj_fn": loss_fn},
    ),
    "hessian_vector_product": (oah.hessian_vector_product, {"fun": loss_fn, "params": PARAMS, "vector": PARAMS}),
    "exact_hessian_diag": (oah.exact_hessian_diag, {"fun": loss_fn, "params": PARAMS}),
    "rademacher_like": (oah.rademacher_like, {"key": KEY, "tree": PARAMS}),
    "refresh_due": (oah.refresh_due, {"step": 0, "update_interval": 3}),
    "SpatialAverage": (Average, {"name": "mine", "block_shape_fn": lambda path, leaf: (1,) * leaf.ndim}),
    "SpatialAverage.conv": (Average.conv, {"kernel": "HWIO"}),
    "SpatialAverage.rows": (Average.rows, {"kernel": "HWIO"}),
    "SpatialAverage.lengths": (Average.lengths, {"n": 32, "kernel": "HWIO"}),
    "SpatialAverage.custom": (Average.custom, {"fn": lambda path, leaf: (1,) * leaf.ndim}),
    "SpatialAverage.describe": (Average.conv("HWIO").describe, {"params": PARAMS}),
    "dense_hessian": (analysis.dense_hessian, {"fun": loss_fn, "params": PARAMS}),
    "double_backward_product": (analysis.double_backward_product, {"fun": loss_fn, "params": PARAMS, "vector": PARAMS}),
    "hutchinson_samples": (
        analysis.hutchinson_samples,
        {"fun": loss_fn, "params": PARAMS, "key": KEY, "num_samples": 2},
    ),
    "error_against_probes": (
        analysis.error_against_probes,
        {"samples": jnp.ones((4, 2)), "diag": jnp.ones(2), "counts": (1, 2)},
    ),
    "predicted_error": (analysis.predicted_error, {"hessian": jnp.eye(2), "counts": (1, 2)}),
    "row_norms": (analysis.row_norms, {"hessian": jnp.eye(2), "num_probes": 1}),
    "parse_expression": (analysis.parse_expression, {"text": "x*y"}),
    "newton": (analysis.newton, {"learning_rate": 1.0}),
    "newton.update": (
        NEWTON.update,
        {"updates": VECTOR, "state": NEWTON.init(VECTOR), "params": VECTOR, "obj_fn": SQUARE},
    ),
    "recorded_probes": (analysis.recorded_probes, {"probes": jnp.ones((1, 1, 2))}),
    "recorded_probes.update": (
        RECORDED.update,
        {"updates": VECTOR, "state": RECORDED.init(VECTOR), "params": VECTOR, "obj_fn": SQUARE},
    ),
    "estimate_report": (
        analysis.estimate_report,
        {"fun": SQUARE, "params": VECTOR, "key": KEY, "max_probes": 1, "repetitions": 1},
    ),
    "trajectory": (analysis.trajectory, {"tx": optax.sgd(0.1), "fun": SQUARE, "start": VECTOR, "steps": 1}),
    "finite_part": (analysis.finite_part, {"path": analysis.Path(np.ones((2, 2)), np.ones(2))}),
}
