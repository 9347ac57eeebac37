"""The recorded runs in tests/golden: arrays in either layout, losses, and the average that each run used."""

from __future__ import annotations

import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah

Layout = Literal["recorded", "converted"]  # PyTorch's (OIHW, (out, in)); Flax's (HWIO, (in, out))
LAYOUTS: tuple[Layout, ...] = ("recorded", "converted")

_FOLDER = pathlib.Path(__file__).parents[1] / "golden"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((_FOLDER / "cases.json").read_text())["cases"]
}


@functools.cache
def arrays(case_id: str) -> dict[str, np.ndarray]:
    """Everything recorded of a case, as tests/golden/README.md lists it."""
    with np.load(_FOLDER / f"{case_id}.npz") as file:
        return dict(file)


def recorded(case_id: str, kind: str, layout: Layout) -> dict[str, np.ndarray]:
    """The arrays `kind` ("p", "g", "z", "hz", "d", "m", "v") of every parameter; their leading axes stay in front."""
    lead = {"z": 2, "hz": 2}.get(kind, 1)
    return {
        param["name"]: _to_layout(arrays(case_id)[f"{kind}/{param['name']}"], param, layout, lead)
        for param in CASES[case_id]["params"]
    }


def hessian_diag(case_id: str, layout: Layout) -> dict[str, np.ndarray]:
    """The signed mean of z * Hz over the samples; on steps without an estimate, the last one again."""
    fresh = arrays(case_id)["fresh"]
    last_fresh = np.maximum.accumulate(np.where(fresh, np.arange(len(fresh)), 0))
    z, hz = recorded(case_id, "z", layout), recorded(case_id, "hz", layout)
    return {name: (z[name] * hz[name]).mean(axis=1)[last_fresh] for name in z}


def as_recorded(case_id: str, params: Any, layout: Layout) -> Any:
    """Parameters of one step, of JAX or NumPy, back in PyTorch's layout."""
    out = {}
    for param in CASES[case_id]["params"]:
        leaf, shape = params[param["name"]], tuple(param["shape"])
        if is_flattened(param):
            leaf = leaf.reshape(shape)
        elif layout == "converted":
            leaf = leaf.transpose(np.argsort(_converted_axes(len(shape))))
        out[param["name"]] = leaf
    return out


def block(param: dict[str, Any], layout: Layout) -> tuple[int, ...]:
    """The recorded averaging of a parameter as a block of its shape in `layout`."""
    shape, averaging = tuple(param["shape"]), param["averaging"]
    if averaging["type"] == "none":
        sizes = (1,) * len(shape)
    elif averaging["type"] == "axes":
        sizes = tuple(size if axis in averaging["axes"] else 1 for axis, size in enumerate(shape))
    elif is_flattened(param):
        return (averaging["size"],)
    else:
        sizes = _run_as_block(shape, averaging["size"])
    return sizes if layout == "recorded" else tuple(sizes[axis] for axis in _converted_axes(len(shape)))


def is_flattened(param: dict[str, Any]) -> bool:
    """Whether runs of the row-major flattened tensor cross its rows, so that no block of its shape expresses them."""
    averaging = param["averaging"]
    return averaging["type"] == "flat_block" and not _run_as_block(tuple(param["shape"]), averaging["size"])


def converts(case_id: str) -> bool:
    """Whether the two layouts of a case differ: some leaf has inputs and outputs."""
    return any(len(param["shape"]) >= 2 and not is_flattened(param) for param in CASES[case_id]["params"])


def spatial_average(case_id: str, layout: Layout) -> oah.SpatialAverage:
    """The preset that names what the original did; `custom` where none does."""
    case = CASES[case_id]
    hyper, kernel = case["hyper"], "OIHW" if layout == "recorded" else "HWIO"
    match case["implementation"]:
        case "official_image_classification":
            return oah.SpatialAverage.conv(kernel)
        case "official_instruction" if set(hyper["spatial_average_block_size"]) == {-1}:
            return oah.SpatialAverage.rows(kernel)
        case "official_fairseq" if not any(map(is_flattened, case["params"])):
            return oah.SpatialAverage.lengths(hyper["block_length"], kernel)
        case "davda54" | "analyze" if not hyper["average_conv_kernel"]:
            return oah.SpatialAverage.none()
        case "davda54" if not {3, 5} & {len(param["shape"]) for param in case["params"]}:
            return oah.SpatialAverage.conv(kernel)
    blocks = {param["name"]: block(param, layout) for param in case["params"]}
    return oah.SpatialAverage.custom(lambda path, leaf: blocks[path[-1].key])


def _to_layout(x: np.ndarray, param: dict[str, Any], layout: Layout, lead: int) -> np.ndarray:
    if is_flattened(param):
        return x.reshape(*x.shape[:lead], -1)
    if layout == "recorded":
        return x
    axes = _converted_axes(x.ndim - lead)
    return x.transpose(*range(lead), *(lead + axis for axis in axes))


def _converted_axes(rank: int) -> tuple[int, ...]:
    """Spatial axes, inputs, outputs: OIHW to HWIO, (out, in) to (in, out), and so in any rank from 2."""
    return (*range(2, rank), 1, 0) if rank >= 2 else tuple(range(rank))


def _run_as_block(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The block of `shape` that is a run of `size` consecutive elements in row-major order, if there is one."""
    sizes: list[int] = []
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
    return _PROBLEMS[case["problem"]["kind"]](case["problem"], **arrays)


def _poly_sin_2d(numbers: dict[str, Any]) -> Callable[[Params], jax.Array]:
    a, b, c, s, w = (numbers[name] for name in "abcsw")

    def loss(params: Params) -> jax.Array:
        v = params["v"]
        return a * v[0] ** 2 + b * v[1] ** 2 + c * v[0] * v[1] + s * jnp.sum(jnp.sin(w * v) ** 2)

    return loss


def _rosenbrock_2d(numbers: dict[str, Any]) -> Callable[[Params], jax.Array]:
    a, b = numbers["a"], numbers["b"]

    def loss(params: Params) -> jax.Array:
        v = params["v"]
        return (a - v[0]) ** 2 + b * (v[1] - v[0] ** 2) ** 2

    return loss


def _mlp(numbers: dict[str, Any], x: jax.Array, y: jax.Array) -> Callable[[Params], jax.Array]:
    del numbers

    def loss(params: Params) -> jax.Array:
        hidden = jnp.tanh(_dense(x, params["w1"], params["b1"]))
        return _cross_entropy(_dense(hidden, params["w2"], params["b2"]), y)

    return loss


def _convnet(numbers: dict[str, Any], x: jax.Array, y: jax.Array) -> Callable[[Params], jax.Array]:
    padding = [(numbers["padding"], numbers["padding"])] * 2

    def loss(params: Params) -> jax.Array:
        maps = jax.lax.conv_general_dilated(
            x, params["cw"], (1, 1), padding, dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        maps = jnp.tanh(maps + params["cb"][None, :, None, None])
        features = jnp.mean(maps, axis=(2, 3)) if numbers["pool"] == "global_mean" else _mean_pool(maps)
        return _cross_entropy(_dense(features, params["fw"], params["fb"]), y)

    return loss


def _lowrank_sin(
    numbers: dict[str, Any],
    B: jax.Array,
    c: jax.Array,
    l: jax.Array,  # noqa: E741 - the formula's own name
) -> Callable[[Params], jax.Array]:
    def loss(params: Params) -> jax.Array:
        u = jnp.concatenate([leaf.ravel() for leaf in params.values()])
        quadratic = jnp.sum((B.T @ u) ** 2) / (2 * numbers["rank"])
        return quadratic + jnp.sum(c * jnp.sin(u)) + jnp.sum(l * u)

    return loss


def _dense(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    return x @ weight.T + bias[None]


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _mean_pool(maps: jax.Array) -> jax.Array:
    """Means of 2 x 2 with an odd remainder dropped, flattened in C, H, W order."""
    n, channels, height, width = maps.shape
    tiles = maps[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, channels, height // 2, 2, width // 2, 2)
    return jnp.mean(tiles, axis=(3, 5)).reshape(n, -1)


_PROBLEMS: dict[str, Callable[..., Callable[[Params], jax.Array]]] = {
    "poly_sin_2d": _poly_sin_2d,
    "rosenbrock_2d": _rosenbrock_2d,
    "mlp": _mlp,
    "convnet": _convnet,
    "lowrank_sin": _lowrank_sin,
}
