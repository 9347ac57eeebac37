"""When to estimate: at every step of a dense start, then at every multiple of an interval."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adahessian._checks import check_integer


def refresh_due(step: Any, update_interval: Any, dense_start: Any = 10) -> Any:
    """Whether a step estimates the Hessian diagonal: ``step < dense_start or step % update_interval == 0``.

    Without the dense start one noisy sample would be the whole denominator of the first `update_interval` steps.

    Args:
      step: the step, counted from 0; an int or an integer array.
      update_interval: steps between estimates.
      dense_start: the first steps that estimate whatever the interval.

    Returns:
      A bool for an int, a boolean array for an array.

    Raises:
      TypeError, ValueError: unless `step` and `dense_start` are integers from 0 and `update_interval` from 1.

    Example:
      >>> import optax_adahessian as oah
      >>> [step for step in range(40) if oah.refresh_due(step, update_interval=15, dense_start=3)]
      [0, 1, 2, 15, 30]
    """
    if not isinstance(step, (jax.Array, np.ndarray)) or step.ndim == 0:
        check_integer("step", step, minimum=0)
    elif not jnp.issubdtype(step.dtype, jnp.integer):
        raise TypeError(f"`step` (of dtype {step.dtype.name}) must be an integer or an array of them.")
    check_schedule(update_interval, dense_start)
    return (step < dense_start) | (step % update_interval == 0)


def check_schedule(update_interval: Any, dense_start: Any) -> None:
    """Raises unless the interval is an integer from 1 and the dense start one from 0."""
    check_integer("update_interval", update_interval, minimum=1)
    check_integer("dense_start", dense_start, minimum=0)
