"""Residual networks in plain JAX: the shapes of ResNet-20 (CIFAR) and of ResNet-50 (ImageNet), kernels HWIO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import Problem, cross_entropy, normal


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution of images, as large as the input divided by the stride."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)


def batch_norm(x: jax.Array, norm: Any) -> jax.Array:
    """Normalization by the statistics of this batch, as in training."""
    mean, var = jnp.mean(x, (0, 1, 2), keepdims=True), jnp.var(x, (0, 1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * norm["scale"][None, None, None] + norm["bias"][None, None, None]


def block(params: Any, x: jax.Array, stride: int) -> jax.Array:
    """Two 3 x 3 convolutions, or a bottleneck of 1 x 1, 3 x 3, 1 x 1, beside a shortcut."""
    count = sum(name.startswith("conv") for name in params)
    out = x
    for i in range(count):
        strided = i == count // 2 if count == 3 else i == 0  # a bottleneck strides in its 3 x 3 convolution
        out = batch_norm(convolve(out, params[f"conv_{i}"]["kernel"], stride if strided else 1), params[f"norm_{i}"])
        out = jax.nn.relu(out) if i < count - 1 else out
    shortcut = convolve(x, params["shortcut"]["kernel"], stride) if "shortcut" in params else x
    return jax.nn.relu(out + shortcut)


def _block_params(keys: Iterator[jax.Array], inputs: int, channels: int, bottleneck: bool) -> Any:
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    widths = (inputs, channels, channels, 4 * channels) if bottleneck else (inputs, channels, channels)
    params: dict[str, Any] = {}
    for i, size in enumerate(sizes):
        params[f"conv_{i}"] = {"kernel": normal(next(keys), size, size, widths[i], widths[i + 1])}
        params[f"norm_{i}"] = {"scale": jnp.ones(widths[i + 1]), "bias": jnp.zeros(widths[i + 1])}
    if inputs != widths[-1]:
        params["shortcut"] = {"kernel": normal(next(keys), 1, 1, inputs, widths[-1])}
    return params


def resnet(batch_size: int, image: int, channels: int, blocks: tuple[int, ...], classes: int, bottleneck: bool) -> Any:
    """A residual network of stages that halve the image and double the channels."""
    keys = iter(jax.random.split(jax.random.key(3), 4 + 4 * sum(blocks)))
    stem = 7 if bottleneck else 3
    params: dict[str, Any] = {
        "stem": {"kernel": normal(next(keys), stem, stem, 3, channels)},
        "stem_norm": {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)},
    }
    width = channels
    for stage, count in enumerate(blocks):
        for i in range(count):
            params[f"block_{stage}_{i}"] = _block_params(keys, width, channels * 2**stage, bottleneck)
            width = channels * 2**stage * (4 if bottleneck else 1)
    params["dense"] = {"kernel": normal(next(keys), width, classes), "bias": jnp.zeros(classes)}

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x, labels = batch
        x = jax.nn.relu(batch_norm(convolve(x, params["stem"]["kernel"], 2 if bottleneck else 1), params["stem_norm"]))
        if bottleneck:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for stage, count in enumerate(blocks):
            for i in range(count):
                x = block(params[f"block_{stage}_{i}"], x, 2 if stage > 0 and i == 0 else 1)
        x = jnp.mean(x, axis=(1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"][None]
        return cross_entropy(x, labels)

    images = jax.random.normal(next(keys), (batch_size, image, image, 3))
    return Problem(loss_fn, params, (images, jax.random.randint(next(keys), (batch_size,), 0, classes)))


def resnet20(batch_size: int = 32) -> Problem:
    """ResNet-20 for images of 32 x 32: 272 thousand parameters."""
    return resnet(batch_size, image=32, channels=16, blocks=(3, 3, 3), classes=10, bottleneck=False)


def resnet50(batch_size: int = 64) -> Problem:
    """ResNet-50 for images of 224 x 224: 25.6 million parameters."""
    return resnet(batch_size, image=224, channels=64, blocks=(3, 4, 6, 3), classes=1000, bottleneck=True)
