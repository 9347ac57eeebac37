"""The recorded runs in tests/golden: their arrays, their losses, and the average that each used."""

import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah

_FOLDER = pathlib.Path(__file__).parents[1] / "golden"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((_FOLDER / "cases.json").read_text())["cases"]
}


@functools.cache
def arrays(case_id: str) -> dict[str, np.ndarray]:
    """Everything recorded of a case, as tests/golden/README.md lists it."""
    with np.load(_FOLDER / f"{case_id}.npz") as file:
        return dict(file)


def recorded(case_id: str, kind: str) -> dict[str, np.ndarray]:
    """The arrays `kind` ("p", "g", "z", "hz", "d", "m", "v") of every parameter."""
    return {param["name"]: arrays(case_id)[f"{kind}/{param['name']}"] for param in CASES[case_id]["params"]}


def flattened(case_id: str, tree: dict[str, Any]) -> dict[str, Any]:
    """Arrays with the steps in front, as vectors where averaged runs cross rows: no block of their shape is a run."""
    crossing = {param["name"] for param in CASES[case_id]["params"] if _block(param) is None}
    return {name: x.reshape(len(x), -1) if name in crossing else x for name, x in tree.items()}


def hessian_diag(case_id: str) -> dict[str, np.ndarray]:
    """The signed mean of z * Hz over the samples; on steps without an estimate, the last one again."""
    fresh = arrays(case_id)["fresh"]
    last_fresh = np.maximum.accumulate(np.where(fresh, np.arange(len(fresh)), 0))
    z, hz = recorded(case_id, "z"), recorded(case_id, "hz")
    return {name: (z[name] * hz[name]).mean(axis=1)[last_fresh] for name in z}


def spatial_average(case_id: str) -> oah.SpatialAverage:
    """The preset that names what the original did; `custom` where none does."""
    case = CASES[case_id]
    hyper = case["hyper"]
    match case["implementation"]:
        case "official_image_classification":
            return oah.SpatialAverage.conv("OIHW")
        case "official_instruction" if set(hyper["spatial_average_block_size"]) == {-1}:
            return oah.SpatialAverage.rows("OIHW")
        case "official_fairseq" if None not in map(_block, case["params"]):
            return oah.SpatialAverage.lengths(hyper["block_length"], "OIHW")
        case "davda54" | "analyze" if not hyper["average_conv_kernel"]:
            return oah.SpatialAverage.none()
        case "davda54" if not {3, 5} & {len(param["shape"]) for param in case["params"]}:
            return oah.SpatialAverage.conv("OIHW")
    blocks = {}
    for param in case["params"]:
        block = _block(param)
        blocks[param["name"]] = (param["averaging"]["size"],) if block is None else block
    return oah.SpatialAverage.custom(lambda path, leaf: blocks[path[-1].key])


def _block(param: dict[str, Any]) -> tuple[int, ...] | None:
    """The recorded averaging of a parameter as a block of its shape, if it is one."""
    shape, averaging = tuple(param["shape"]), param["averaging"]
    if averaging["type"] == "none":
        return (1,) * len(shape)
    if averaging["type"] == "axes":
        return tuple(size if axis in averaging["axes"] else 1 for axis, size in enumerate(shape))
    sizes: list[int] = []
    size = averaging["size"]  # of a run of consecutive elements in row-major order
    for axis in reversed(shape):
        taken = math.gcd(axis, size)
        if taken not in (axis, size):
            return None
        sizes.insert(0, taken)
        size //= taken
    return tuple(sizes)


# The losses, rebuilt from the formulas in tests/golden/cases.json, in PyTorch's layouts.
Params = dict[str, jax.Array]


def loss_fn(case: dict[str, Any], data: dict[str, Any], dtype: Any) -> Callable[[Params], jax.Array]:
    """The loss of a case as a function of its parameters; `data` are its recorded arrays."""
    arrays = {name: jnp.asarray(data[f"data/{name}"], None if name == "y" else dtype) for name in case["data"]}
    return functools.partial(_LOSSES[case["problem"]["kind"]], case["problem"], arrays)


def _poly_sin_2d(n: Any, data: Params, p: Params) -> jax.Array:
    (x, y), sines = p["v"], jnp.sum(jnp.sin(n["w"] * p["v"]) ** 2)
    return n["a"] * x**2 + n["b"] * y**2 + n["c"] * x * y + n["s"] * sines


def _rosenbrock_2d(n: Any, data: Params, p: Params) -> jax.Array:
    x, y = p["v"]
    return (n["a"] - x) ** 2 + n["b"] * (y - x**2) ** 2


def _mlp(n: Any, data: Params, p: Params) -> jax.Array:
    hidden = jnp.tanh(_dense(data["x"], p["w1"], p["b1"]))
    return _cross_entropy(_dense(hidden, p["w2"], p["b2"]), data["y"])


def _convnet(n: Any, data: Params, p: Params) -> jax.Array:
    padding, dimensions = [(n["padding"], n["padding"])] * 2, ("NCHW", "OIHW", "NCHW")
    maps = jax.lax.conv_general_dilated(data["x"], p["cw"], (1, 1), padding, dimension_numbers=dimensions)
    maps = jnp.tanh(maps + p["cb"][None, :, None, None])
    features = jnp.mean(maps, axis=(2, 3)) if n["pool"] == "global_mean" else _mean_pool(maps)
    return _cross_entropy(_dense(features, p["fw"], p["fb"]), data["y"])


def _lowrank_sin(n: Any, data: Params, p: Params) -> jax.Array:
    u = jnp.concatenate([leaf.ravel() for leaf in p.values()])
    return jnp.sum((data["B"].T @ u) ** 2) / (2 * n["rank"]) + jnp.sum(data["c"] * jnp.sin(u)) + jnp.sum(data["l"] * u)


def _dense(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    return x @ weight.T + bias[None]


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _mean_pool(maps: jax.Array) -> jax.Array:
    """Means of 2 x 2 with an odd remainder dropped, flattened in C, H, W order."""
    n, channels, height, width = maps.shape
    tiles = maps[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, channels, height // 2, 2, width // 2, 2)
    return jnp.mean(tiles, axis=(3, 5)).reshape(n, -1)


_LOSSES: dict[str, Callable[..., jax.Array]] = {
    "poly_sin_2d": _poly_sin_2d,
    "rosenbrock_2d": _rosenbrock_2d,
    "mlp": _mlp,
    "convnet": _convnet,
    "lowrank_sin": _lowrank_sin,
}
