"""Probes that were recorded elsewhere, in the place of drawn ones."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian import hessian_vector_product
from optax_adahessian._checks import check_callable


def read_probes(file: pathlib.Path, steps: int) -> np.ndarray:
    """The probes of a numpy file, for `steps` estimates of functions of x and y; raises ValueError for any other."""
    try:
        probes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as an array (.npy): {error}") from error
    if not isinstance(probes, np.ndarray) or probes.ndim != 3 or probes.shape[0] < steps or probes.shape[2] != 2:
        shape = getattr(probes, "shape", "of an archive")
        raise ValueError(
            f"{str(file)!r} (shape {shape}) must hold one array of shape (at least {steps} steps, probes per step, 2)."
        )
    return probes


class RecordedProbesState(NamedTuple):
    """State of `recorded_probes`."""

    step: jax.Array  # shape=(), dtype=int32: estimates made so far


def check_feed_of_vector(obj_fn: Any, params: Any) -> None:
    """Raises unless an `update` on a vector was given the loss and the point."""
    check_callable("obj_fn", obj_fn, "obj_fn=fun")
    if params is None:
        raise ValueError("`params` (=None) must be given: the Hessian is taken at them. Pass them to `update`.")


def recorded_probes(probes: jax.typing.ArrayLike) -> optax.GradientTransformationExtraArgs:
    """The estimate of `optax_adahessian.hutchinson` with given probes, to repeat a recorded run exactly.

    Args:
      probes: of shape (estimates, probes per estimate, n) for parameters of shape (n,); signs, -1 or 1. The last
        estimate's probes serve all later ones.

    Returns:
      A transformation for the `hessian_diagonal_fn` of `adahessian`.

    Raises:
      TypeError: if `probes` is no array of real numbers.
      ValueError: if `probes` has another rank, or entries that are no signs.
    """
    if not isinstance(probes, jax.Array):
        probes = np.asarray(probes)
        if probes.dtype.kind not in "iuf":
            raise TypeError(f"`probes` (of dtype {probes.dtype.name}) must be an array of real numbers, -1 or 1.")
    signs = jnp.asarray(probes)
    if signs.ndim != 3 or not bool(jnp.all(jnp.abs(signs) == 1)):
        raise ValueError(
            f"`probes` (of shape {signs.shape}) must be an array of signs, -1 or 1, of shape "
            "(estimates, probes per estimate, parameters)."
        )

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        obj_fn: Any = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        del updates, extra
        check_feed_of_vector(obj_fn, params)
        shape = np.shape(params)  # type: ignore[arg-type]
        if shape != signs.shape[2:]:
            raise ValueError(
                f"`params` (of shape {shape}) must have the shape of one of the `probes`, {signs.shape[2:]}."
            )
        z = signs[state.step].astype(jnp.result_type(params))
        products = jax.vmap(lambda vector: hessian_vector_product(obj_fn, params, vector))(z)
        return jnp.mean(z * products, axis=0), RecordedProbesState(state.step + 1)

    return optax.GradientTransformationExtraArgs(
        lambda params: RecordedProbesState(jnp.zeros([], jnp.int32)), update_fn
    )
