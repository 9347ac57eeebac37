"""Small models, in Flax's layouts: kernels HWIO, dense (in, out). They run in JAX, and in PyTorch for its optimizers.

A loss that has a twin in PyTorch takes the functions of its framework, `JAX` or their counterparts, as `xp`.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Problem(NamedTuple):
    """A loss with its parameters and one batch."""

    loss_fn: Callable[[Any, Any], jax.Array]  # loss_fn(params, batch) -> scalar
    params: Any
    batch: Any


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random weights whose last axis is the output, with the variance of one over the number of inputs."""
    return rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))


def kernel_and_bias(rng: np.random.Generator, *shape: int) -> dict[str, np.ndarray]:
    """A random kernel, and a bias for its last axis."""
    return {"kernel": normal(rng, *shape), "bias": np.zeros(shape[-1], np.float32)}


def init_layers(rng: np.random.Generator, sizes: Sequence[int], *kernel: int, gain: Any = 1.0) -> list[Any]:
    """Kernels of this size, times one gain or one for each, and biases, from each number of channels to the next."""
    gains = np.broadcast_to(np.float32(gain), len(sizes) - 1)
    layers = [kernel_and_bias(rng, *kernel, n, m) for n, m in itertools.pairwise(sizes)]
    return [layer | {"kernel": gain * layer["kernel"]} for gain, layer in zip(gains, layers, strict=True)]


def apply_layers(params: Any, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = jnp.tanh) -> jax.Array:
    """Dense layers, with the activation between them."""
    for i, layer in enumerate(params):
        x = dense(x, layer)
        x = activation(x) if i < len(params) - 1 else x
    return x


def random_rows(size: int) -> Callable[[jax.Array, Any], Any]:
    """A function of a key and of arrays that draws so many of their rows, with replacement."""

    def batch_at(key: jax.Array, arrays: Any) -> Any:
        rows = jax.random.randint(key, (size,), 0, len(arrays[0]))
        return tuple(jnp.asarray(array)[rows] for array in arrays)

    return batch_at


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean softmax cross-entropy."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution of images, as large as the input divided by the stride."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)


def batch_norm(x: jax.Array, norm: Any) -> jax.Array:
    """Normalization by the statistics of this batch, as in training."""
    mean, var = jnp.mean(x, (0, 1, 2), keepdims=True), jnp.var(x, (0, 1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * norm["scale"][None, None, None] + norm["bias"][None, None, None]


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """A normalization by the root mean square, computed in float32."""
    mean_square = jnp.mean(x.astype(jnp.float32) ** 2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + 1e-6).astype(x.dtype) * scale


JAX = SimpleNamespace(
    tanh=jnp.tanh,
    relu=jax.nn.relu,
    gelu=jax.nn.gelu,
    softmax=jax.nn.softmax,
    rsqrt=jax.lax.rsqrt,
    einsum=jnp.einsum,
    where=jnp.where,
    lower_triangle=lambda n: jnp.tril(jnp.ones((n, n), bool)),
    convolve=convolve,
    batch_norm=batch_norm,
    mean_image=lambda x: jnp.mean(x, axis=(1, 2)),
    cross_entropy=cross_entropy,
)


def dense(x: Any, layer: Any) -> Any:
    """A dense layer."""
    return x @ layer["kernel"] + layer["bias"].reshape(*(1,) * (x.ndim - 1), -1)


def mlp(batch_size: int = 32, width: int = 64, features: int = 20) -> Problem:
    """Two tanh layers, 10 classes."""
    rng, sizes = np.random.default_rng(0), (features, width, width, 10)
    params = {f"dense_{i}": kernel_and_bias(rng, *sizes[i : i + 2]) for i in range(3)}
    batch = rng.standard_normal((batch_size, features), np.float32), rng.integers(10, size=batch_size, dtype=np.int32)
    return Problem(functools.partial(mlp_loss, xp=JAX), params, batch)


def mlp_loss(params: Any, batch: Any, xp: Any) -> Any:
    """Of `mlp`."""
    x, labels = batch
    x = xp.tanh(dense(x, params["dense_0"]))
    x = xp.tanh(dense(x, params["dense_1"]))
    return xp.cross_entropy(dense(x, params["dense_2"]), labels)


def chain(leaves: int, size: int = 8) -> Problem:
    """So many square matrices, one after the other, with a residual: many leaves in little code."""
    rng = np.random.default_rng(4)

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        for kernel in params:
            batch = batch + jnp.tanh(batch @ kernel) / leaves
        return jnp.mean(batch * batch)

    return Problem(loss_fn, [normal(rng, size, size) for _ in range(leaves)], normal(rng, 4, size))


def resnet20(batch_size: int = 16) -> Problem:
    """ResNet-20 for images of 32 x 32: 272 thousand parameters."""
    rng = np.random.default_rng(3)

    def convolution(size: int, inputs: int, outputs: int) -> Any:
        return {"kernel": normal(rng, size, size, inputs, outputs)}

    def norm(width: int) -> Any:
        return {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}

    params, inputs = {"stem": convolution(3, 3, 16), "stem_norm": norm(16)}, 16
    for i in range(9):
        outputs = 16 * 2 ** (i // 3)
        block = {"conv_0": convolution(3, inputs, outputs), "conv_1": convolution(3, outputs, outputs)}
        block |= {"shortcut": convolution(1, inputs, outputs)} if outputs > inputs else {}
        params[f"block_{i}"] = block | {"norm_0": norm(outputs), "norm_1": norm(outputs)}
        inputs = outputs
    params["dense"] = kernel_and_bias(rng, inputs, 10)
    images = rng.standard_normal((batch_size, 32, 32, 3), np.float32)
    batch = images, rng.integers(10, size=batch_size, dtype=np.int32)
    return Problem(functools.partial(resnet20_loss, xp=JAX), params, batch)


def resnet20_loss(params: Any, batch: Any, xp: Any) -> Any:
    """Of `resnet20`."""
    x, labels = batch
    x = xp.relu(xp.batch_norm(xp.convolve(x, params["stem"]["kernel"]), params["stem_norm"]))
    for i in range(9):
        block = params[f"block_{i}"]
        stride = 2 if "shortcut" in block else 1
        out = xp.relu(xp.batch_norm(xp.convolve(x, block["conv_0"]["kernel"], stride), block["norm_0"]))
        out = xp.batch_norm(xp.convolve(out, block["conv_1"]["kernel"]), block["norm_1"])
        x = xp.relu(out + (xp.convolve(x, block["shortcut"]["kernel"], stride) if stride > 1 else x))
    return xp.cross_entropy(dense(xp.mean_image(x), params["dense"]), labels)


def transformer(
    batch_size: int = 4, length: int = 32, width: int = 64, layers: int = 2, vocab: int = 96, heads: int = 2
) -> Problem:
    """A causal transformer of 10 leaves in each layer and an embedding, which is the output layer, too."""
    rng = np.random.default_rng(2)
    shapes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    params: dict[str, Any] = {"embedding": normal(rng, vocab, width)}
    for i in range(layers):
        params[f"block_{i}"] = {name: kernel_and_bias(rng, *shape) for name, shape in shapes.items()}
        params[f"block_{i}"] |= {name: {"scale": np.ones(width, np.float32)} for name in ("norm_0", "norm_1")}
    batch = rng.integers(vocab, size=(batch_size, length + 1), dtype=np.int32)
    return Problem(functools.partial(transformer_loss, heads=heads, xp=JAX), params, batch)


def transformer_loss(params: Any, batch: Any, heads: int, xp: Any) -> Any:
    """Of `transformer`: the mean over all tokens."""

    def normalize(x: Any) -> Any:
        return x * xp.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)

    def attention(block: Any, x: Any) -> Any:
        qkv = dense(x, block["qkv"]).reshape(*x.shape[:2], 3, heads, -1)
        scores = xp.einsum("bqhd,bkhd->bhqk", qkv[:, :, 0], qkv[:, :, 1]) / math.sqrt(qkv.shape[-1])
        weights = xp.softmax(xp.where(xp.lower_triangle(x.shape[1])[None, None], scores, -1e9))
        return dense(xp.einsum("bhqk,bkhd->bqhd", weights, qkv[:, :, 2]).reshape(*x.shape), block["out"])

    x = params["embedding"][batch[:, :-1]]
    for i in range(len(params) - 1):
        block = params[f"block_{i}"]
        x = x + attention(block, normalize(x) * block["norm_0"]["scale"][None, None])
        hidden = dense(normalize(x) * block["norm_1"]["scale"][None, None], block["up"])
        x = x + dense(xp.gelu(hidden), block["down"])
    return xp.cross_entropy(normalize(x) @ params["embedding"].T, batch[:, 1:])
