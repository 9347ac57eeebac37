"""Probes that were recorded elsewhere, in the place of drawn ones."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian import hessian_vector_product


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


def recorded_probes(probes: jax.typing.ArrayLike) -> optax.GradientTransformationExtraArgs:
    """The estimate of `optax_adahessian.hutchinson` with given probes, to repeat a recorded run exactly.

    Args:
      probes: of shape (estimates, probes per estimate, n) for parameters of shape (n,); signs, -1 or 1. The last
        estimate's probes serve all later ones.

    Returns:
      A transformation for the `hessian_diagonal_fn` of `adahessian`.

    Raises:
      ValueError: if `probes` has another rank, or entries that are no signs.
    """
    signs = jnp.asarray(probes)
    if signs.ndim != 3 or not bool(jnp.all(jnp.abs(signs) == 1)):
        raise ValueError(
            f"`probes` (of shape {signs.shape}) must be an array of signs, -1 or 1, of shape "
            "(estimates, probes per estimate, parameters)."
        )

    def update_fn(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, *, obj_fn: Any, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        del updates, extra
        z = signs[state.step].astype(jnp.result_type(params))
        products = jax.vmap(lambda vector: hessian_vector_product(obj_fn, params, vector))(z)
        return jnp.mean(z * products, axis=0), RecordedProbesState(state.step + 1)

    return optax.GradientTransformationExtraArgs(
        lambda params: RecordedProbesState(jnp.zeros([], jnp.int32)), update_fn
    )
