"""Our own probes on a recorded problem whose Hessian is known in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from golden_cases import CASES, arrays
from golden_problems import loss_fn
from golden_replay import COMPILE_FAST

import optax_adahessian as oah


def check_own_probes(num_probes: int = 2, num_keys: int = 4_000) -> None:
    """Raises AssertionError unless mean and variance of our estimate are those that theory gives."""
    case, data = CASES["b_ranks_default"], arrays("b_ranks_default")
    params = {param["name"]: jnp.asarray(data[f"p/{param['name']}"][0], jnp.float32) for param in case["params"]}
    estimate = oah.value_grad_and_hessian_diag(
        loss_fn(case, data, "float32"), has_aux=False, num_probes=num_probes, axis_name=None, hvp="forward_over_reverse"
    )
    keys = jax.random.split(jax.random.key(0), num_keys)
    _, _, diags = jax.jit(jax.vmap(estimate, in_axes=(0, None)), compiler_options=COMPILE_FAST)(keys, params)
    samples = np.concatenate([np.reshape(leaf, (num_keys, -1)) for leaf in diags.values()], axis=1).astype(np.float64)

    # f = |B^T u|^2 / (2 rank) + sum c sin(u) + ..., so that H = B B^T / rank - diag(c sin(u)).
    u = np.concatenate([data[f"p/{param['name']}"][0].ravel() for param in case["params"]])
    hessian = data["data/B"] @ data["data/B"].T / case["problem"]["rank"] - np.diag(data["data/c"] * np.sin(u))
    variance = (np.sum(hessian**2, axis=1) - np.diag(hessian) ** 2) / num_probes
    # Six standard errors for about 100 entries; that of a sample variance is that of a normal variable's at most:
    # a sum of signs has a fourth moment below three variances squared.
    assert np.all(np.abs(samples.mean(axis=0) - np.diag(hessian)) <= 6 * np.sqrt(variance / num_keys) + 1e-6)
    assert np.all(np.abs(samples.var(axis=0) - variance) <= 6 * variance * np.sqrt(2 / num_keys))
