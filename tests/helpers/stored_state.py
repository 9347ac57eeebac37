"""A run that stops after five steps and goes on for three, and its file: later versions read what earlier ones wrote.

``python -m tests.helpers.stored_state`` writes the file of the installed version.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah

FILES = Path(__file__).parents[1] / "states"
STOP, END = 5, 8  # estimates at steps 0, 2, 4, 6: the state at step 5 is one between two
TX = oah.scale_by_adahessian(update_interval=2, dense_start=1, spatial_average=oah.SpatialAverage.rows("HWIO"))


def initial() -> Any:
    """Parameters and state."""
    params = {"bias": jnp.linspace(-1, 1, 2), "kernel": jnp.linspace(0.5, 2, 6).reshape(3, 2)}
    return params, TX.init(params)


@jax.jit
def step(carry: Any) -> Any:
    """One step on a loss of a diagonal Hessian, so that no estimate depends on the signs drawn for it."""
    params, state = carry
    loss_fn = lambda params: jnp.sum((params["bias"] - 3) ** 2) + jnp.sum(params["kernel"] ** 4)
    updates, state = TX.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)
    return optax.apply_updates(params, jax.tree.map(lambda u: -0.1 * u, updates)), state


def advance(carry: Any, steps: int) -> Any:
    """Parameters and state that many steps later."""
    for _ in range(steps):
        carry = step(carry)
    return carry


def write(path: Path, **trees: Any) -> None:
    """Stores each leaf under the name of its tree and its path in it."""
    leaves = {name: jax.tree_util.tree_leaves_with_path(tree) for name, tree in trees.items()}
    np.savez(path, **{name + jax.tree_util.keystr(p): leaf for name in leaves for p, leaf in leaves[name]})


def read(path: Path, name: str, like: Any) -> Any:
    """A tree of `write`, in the structure of `like`."""
    with np.load(path) as stored:
        return jax.tree_util.tree_map_with_path(lambda p, leaf: stored[name + jax.tree_util.keystr(p)], like)


if __name__ == "__main__":
    stopped = advance(initial(), STOP)
    write(FILES / f"{oah.__version__}.npz", stopped=stopped, ended=advance(stopped, END - STOP))
