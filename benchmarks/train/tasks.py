"""The nine tasks. A batch is a function of a key and of the data, so that a whole run is one program."""

import functools
import math
import pydoc_data.topics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from benchmarks.models import apply_layers, init_layers, normal, random_rows


class Task(NamedTuple):
    """A model and its data. Settings are chosen on the validation part, results are reported on the test part."""

    title: str
    metric: str  # what is reported, and its unit
    steps: int  # of AdamW; its seconds are what every row is given
    seeds: int  # of a reported run: more where seeds differ more than optimizers do
    init: Callable[[np.random.Generator], Any]
    loss_fn: Callable[[Any, Any], jax.Array]  # of parameters and a batch, which is trained
    parts: Callable[[int], tuple[Any, Any, Any]]  # of a seed: to train, to validate and to test on
    batch_at: Callable[[jax.Array, Any], Any]  # a random batch, from a key and the first part
    measure: Callable[[Any, Any], jax.Array] | None = None  # which is reported, if it is not the loss
    decays: tuple[float, ...] = ()  # products of rate and weight decay, of kernels: the first, and others to try


def _table(batch_size: int, *arrays: np.ndarray, limit: int | None = None) -> dict[str, Any]:
    """The test part is a fifth, the same for all; of the rest every seed has a quarter of its own for validation.

    So a setting is not chosen by the whims of one validation part. At most `limit` rows are trained on. Batches are
    drawn with replacement.
    """
    rest, test = np.split(np.random.default_rng(0).permutation(len(arrays[0])), [len(arrays[0]) * 8 // 10])

    def parts(seed: int) -> Any:
        own = np.split(np.random.default_rng(seed).permutation(rest), [len(rest) * 3 // 4])
        return tuple(tuple(array[rows] for array in arrays) for rows in (own[0][:limit], own[1], test))

    return {"parts": parts, "batch_at": random_rows(batch_size)}


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


_LOSSES: dict[str, Any] = {
    "cross-entropy": _cross_entropy,
    "binary cross-entropy": lambda out, labels: jnp.mean(optax.sigmoid_binary_cross_entropy(out[:, 0], labels)),
    "squared error": lambda out, targets: jnp.mean(jnp.sum((out - targets.reshape(out.shape)) ** 2, axis=1)),
}


def _dense_net(
    title: str, metric: str, sizes: Sequence[int], activation: Any, scales: Sequence[float] = (), **options: Any
) -> Task:
    """Dense layers from the first part of a batch to the second. A linear model starts at zero, others at `scales`."""

    def init(rng: np.random.Generator) -> Any:
        return init_layers(rng, sizes, gain=scales or float(len(sizes) > 2))

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        return _LOSSES[metric](apply_layers(params, batch[0], activation), batch[1])

    return Task(title, metric, init=init, loss_fn=loss_fn, **options)


def _digits(batch_size: int, reconstruct: bool = False, limit: int | None = None) -> dict[str, Any]:
    """1,797 images of 8 x 8 pixels in [0, 1], as rows of 64, and their labels or, to be reconstructed, themselves."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.float32(images / 16)
    return _table(batch_size, pixels, pixels if reconstruct else np.int32(labels), limit=limit)


def convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """3 x 3 as a matrix product of patches: XLA's own is 10 to 30 times slower inside a loop on the CPU."""
    before = (3 - stride) // 2
    x = jnp.pad(x, ((0, 0), *[(before, 3 - stride - before)] * 2, (0, 0)))
    last = x.shape[1] - 2
    patches = [x[:, i : i + last : stride, j : j + last : stride] for i in range(3) for j in range(3)]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _conv_net(title: str, channels: tuple[int, int], hidden: int, **options: Any) -> Task:
    """Two convolutions, the second with stride 2, and two dense layers, SiLU."""

    def init(rng: np.random.Generator) -> Any:
        dense = init_layers(rng, (16 * channels[1], hidden, 10))
        return {"convolutions": init_layers(rng, (1, *channels), 3, 3), "dense": dense}

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x = batch[0].reshape(-1, 8, 8, 1)
        for layer, stride in zip(params["convolutions"], (1, 2), strict=True):
            x = jax.nn.silu(convolution(x, layer["kernel"], stride) + layer["bias"][None, None, None])
        return _cross_entropy(apply_layers(params["dense"], x.reshape(len(x), -1), jax.nn.silu), batch[1])

    return Task(title, "cross-entropy", init=init, loss_fn=loss_fn, **options)


def _poisson() -> Task:
    """A physics-informed network for the Laplacian of ``sin(pi x) sin(2 pi y)``, which is zero at the boundary."""

    def solution(x: jax.Array) -> jax.Array:
        return jnp.sin(jnp.pi * x[:, 0]) * jnp.sin(2 * jnp.pi * x[:, 1])

    def network(params: Any, x: jax.Array) -> jax.Array:
        return apply_layers(params, x)[:, 0]

    def second_derivative(params: Any, x: jax.Array, along: jax.Array) -> jax.Array:
        def derivative(x: jax.Array) -> jax.Array:
            return jax.jvp(functools.partial(network, params), (x,), (along,))[1]

        return jax.jvp(derivative, (x,), (along,))[1]

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        inside, boundary = batch
        laplacian = sum(second_derivative(params, inside, jnp.zeros_like(inside).at[:, i].set(1.0)) for i in (0, 1))
        return jnp.mean((laplacian / (5 * jnp.pi**2) + solution(inside)) ** 2) + jnp.mean(
            network(params, boundary) ** 2
        )

    def relative_error(params: Any, x: jax.Array) -> jax.Array:
        return jnp.linalg.norm(network(params, x) - solution(x)) / jnp.linalg.norm(solution(x))

    def batch_at(key: jax.Array, train: Any) -> Any:
        del train
        side_key, *keys = jax.random.split(key, 3)
        inside, boundary = (jax.random.uniform(key, (128, 2)) for key in keys)
        side = jax.random.randint(side_key, (128, 1), 0, 4)  # left, right, bottom, top
        return inside, jnp.where(jnp.arange(2)[None] == side // 2, jnp.float32(side % 2), boundary)

    parts = (), *np.random.default_rng(0).random((2, 1000, 2), np.float32)
    init, title = functools.partial(init_layers, sizes=(2, 32, 32, 1)), "Physics-informed net, Poisson"
    metric = "relative error of the solution"
    return Task(title, metric, 2000, 9, init, loss_fn, lambda seed: parts, batch_at, relative_error)


def _attention(block: Any, x: jax.Array, heads: int = 4) -> jax.Array:
    q, k, v = jnp.split((x @ block["qkv"]).reshape(*x.shape[:2], heads, -1), 3, axis=-1)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(scores.shape[2:], bool))[None, None], scores, -1e9))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ block["out"]


def _normalize(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def _help_texts(batch_size: int, length: int, kept_windows: int) -> tuple[int, dict[str, Any]]:
    """The size of the alphabet, and windows of characters of Python's help texts; the last two tenths are kept."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet, tokens = np.unique(list(text), return_inverse=True)
    train, *kept = np.split(np.int32(tokens), [len(tokens) * 8 // 10, len(tokens) * 9 // 10])

    def windows(tokens: Any, starts: Any) -> Any:
        return tokens[starts[:, None] + np.arange(length + 1)[None]]

    def batch_at(key: jax.Array, train: Any) -> Any:
        return windows(train, jax.random.randint(key, (batch_size,), 0, len(train) - length))

    parts = train, *(windows(k, np.linspace(0, len(k) - length - 1, kept_windows).astype(int)) for k in kept)
    return len(alphabet), {"parts": lambda seed: parts, "batch_at": batch_at}


def _character_model(length: int = 8, features: int = 16, width: int = 128) -> Task:
    """One hidden layer on the embeddings of the last characters predicts the next one (Bengio et al. 2003)."""
    alphabet, data = _help_texts(64, length, 4096)

    def init(rng: np.random.Generator) -> Any:
        dense = init_layers(rng, (length * features, width, alphabet))
        return {"embedding": normal(rng, alphabet, features), "dense": dense}

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x = params["embedding"][batch[:, :-1]].reshape(len(batch), -1)
        return _cross_entropy(apply_layers(params["dense"], x), batch[:, -1])

    title, metric = "Character model, 8,000 steps", "cross-entropy per character"
    return Task(title, metric, 8000, 6, init, loss_fn, **data)


def _transformer(length: int = 32, width: int = 64) -> Task:
    """Two layers that predict characters."""
    alphabet, data = _help_texts(8, length, 128)

    def init(rng: np.random.Generator) -> Any:
        widths = [("qkv", 1, 3), ("out", 1, 1), ("up", 1, 4), ("down", 4, 1)]
        blocks = [{name: normal(rng, n * width, m * width) for name, n, m in widths} for _ in range(2)]
        ends = {"embedding": (alphabet, width), "positions": (length, width), "output": (width, alphabet)}
        scales = [np.ones(width, np.float32) for _ in range(2)]
        return {name: normal(rng, *shape) for name, shape in ends.items()} | {"blocks": blocks, "scales": scales}

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x = params["embedding"][batch[:, :-1]] + params["positions"][None]
        for block, scale in zip(params["blocks"], params["scales"], strict=True):
            x = x + _attention(block, _normalize(x))
            x = x + jax.nn.gelu(_normalize(x) * scale[None, None] @ block["up"]) @ block["down"]
        return _cross_entropy(_normalize(x) @ params["output"], batch[:, 1:])

    title, metric = "Character transformer, help texts", "cross-entropy per character"
    return Task(title, metric, 500, 5, init, loss_fn, **data)


def _raw(load_data: Any, **options: Any) -> dict[str, Any]:
    return _table(64, *map(np.float32, load_data(return_X_y=True, **options)))


_MLP = "MLP, digits", "cross-entropy", (64, 64, 64, 10), jnp.tanh
_RELU = "ReLU classifier, digits", "cross-entropy", (64, 128, 128, 10), jax.nn.relu
_CODE = "Deep autoencoder, digits", "squared error", (64, 128, 64, 16, 64, 128, 64), jnp.tanh
_SCALES = "ReLU net, layers of unequal scales", "cross-entropy", (64, 128, 128, 128, 10), jax.nn.relu
_DECAY = "Convolutional net, 300 images, weight decay", (8, 16), 32
_CANCER = "Logistic regression, raw features", "binary cross-entropy", (30, 1), jnp.tanh
_DIABETES = "Regression, raw features and targets", "squared error", (10, 32, 1), jax.nn.relu

TASKS: dict[str, Callable[[], Task]] = {
    "mlp": lambda: _dense_net(*_MLP, **_digits(128), steps=250, seeds=24),
    "relu": lambda: _dense_net(*_RELU, **_digits(256), steps=500, seeds=12),
    "conv": lambda: _conv_net("Convolutional net, stopped early", (8, 16), 32, **_digits(128), steps=250, seeds=12),
    "conv600": lambda: _conv_net(
        "Convolutional net, trained to the end", (16, 32), 64, **_digits(128), steps=600, seeds=6
    ),
    "autoencoder": lambda: _dense_net(*_CODE, **_digits(128, True), steps=1500, seeds=6),
    "transformer": _transformer,
    "cancer": lambda: _dense_net(*_CANCER, **_raw(load_breast_cancer), steps=2000, seeds=24),
    "diabetes": lambda: _dense_net(*_DIABETES, **_raw(load_diabetes, scaled=False), steps=2000, seeds=24),
    "poisson": _poisson,
    # Chosen before any run, and never tuned on: a longer run, a weight decay, and layers of other scales.
    "chars": _character_model,
    "decay": lambda: _conv_net(
        *_DECAY, **_digits(32, limit=300), steps=1000, seeds=12, decays=(1e-3, 0.0, 3.16e-4, 3.16e-3, 1e-2)
    ),
    "scales": lambda: _dense_net(*_SCALES, scales=(10, 0.1, 10, 0.1), **_digits(128), steps=1000, seeds=12),
}
load = functools.cache(lambda name: TASKS[name]())  # a task by its name
