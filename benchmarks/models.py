"""Small models in plain JAX, in Flax's layouts: kernels HWIO, dense (in, out)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Problem(NamedTuple):
    """A loss with its parameters and one batch."""

    loss_fn: Any  # loss_fn(params, batch) -> scalar
    params: Any
    batch: Any


def normal(key: jax.Array, *shape: int) -> jax.Array:
    """Random weights whose last axis is the output, with the variance of one over the number of inputs."""
    return jax.random.normal(key, shape) / math.sqrt(math.prod(shape[:-1]))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean softmax cross-entropy."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))


def mlp(batch_size: int = 32, width: int = 64, features: int = 20) -> Problem:
    """Two tanh layers, 10 classes."""
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = (features, width, width, 10)
    params = {
        f"dense_{i}": {"kernel": normal(keys[i], sizes[i], sizes[i + 1]), "bias": jnp.zeros(sizes[i + 1])}
        for i in range(3)
    }

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x, labels = batch
        for i in range(3):
            x = x @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"][None]
            x = jnp.tanh(x) if i < 2 else x
        return cross_entropy(x, labels)

    batch = jax.random.normal(keys[3], (batch_size, features)), jax.random.randint(keys[4], (batch_size,), 0, 10)
    return Problem(loss_fn, params, batch)


def conv_net(batch_size: int = 16, channels: int = 16) -> Problem:
    """Three 3 x 3 convolutions and a dense layer on 8 x 8 images, 10 classes."""
    keys = jax.random.split(jax.random.key(1), 6)
    params = {
        "conv_0": {"kernel": normal(keys[0], 3, 3, 1, channels), "bias": jnp.zeros(channels)},
        "conv_1": {"kernel": normal(keys[1], 3, 3, channels, channels), "bias": jnp.zeros(channels)},
        "conv_2": {"kernel": normal(keys[2], 3, 3, channels, channels), "bias": jnp.zeros(channels)},
        "dense": {"kernel": normal(keys[3], channels, 10), "bias": jnp.zeros(10)},
    }

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x, labels = batch
        for name in ("conv_0", "conv_1", "conv_2"):
            kernel, bias = params[name]["kernel"], params[name]["bias"]
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.silu(x + bias[None, None, None])
        x = jnp.mean(x, axis=(1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"][None]
        return cross_entropy(x, labels)

    batch = jax.random.normal(keys[4], (batch_size, 8, 8, 1)), jax.random.randint(keys[5], (batch_size,), 0, 10)
    return Problem(loss_fn, params, batch)


def transformer(
    batch_size: int = 4,
    length: int = 32,
    width: int = 64,
    layers: int = 2,
    vocab: int = 96,
    heads: int = 2,
    tied: bool = False,
    key: jax.Array | None = None,
) -> Problem:
    """A causal transformer with learned positions, and an output layer of its own unless it is `tied`."""
    keys = iter(jax.random.split(jax.random.key(2) if key is None else key, 3 + 4 * layers + 1))
    params = {"embedding": normal(next(keys), vocab, width), "pos_embedding": normal(next(keys), length, width)}
    if not tied:
        params["output"] = {"kernel": normal(next(keys), width, vocab)}
    for i in range(layers):
        params[f"block_{i}"] = {
            "qkv": {"kernel": normal(next(keys), width, 3 * width)},
            "out": {"kernel": normal(next(keys), width, width)},
            "up": {"kernel": normal(next(keys), width, 4 * width)},
            "down": {"kernel": normal(next(keys), 4 * width, width)},
            "norm": {"scale": jnp.ones(width)},
        }

    def normalize(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)

    def attention(block: Any, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        qkv = (x @ block["qkv"]["kernel"]).reshape(batch, length, 3, heads, width // heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(width // heads)
        weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((length, length), bool))[None, None], scores, -1e9))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ block["out"]["kernel"]

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x = params["embedding"][batch[:, :-1]] + params["pos_embedding"][None]
        for i in range(layers):
            block = params[f"block_{i}"]
            x = x + attention(block, normalize(x))
            hidden = jax.nn.gelu(normalize(x) * block["norm"]["scale"][None, None] @ block["up"]["kernel"])
            x = x + hidden @ block["down"]["kernel"]
        output = params["embedding"].T if tied else params["output"]["kernel"]
        return cross_entropy(normalize(x) @ output, batch[:, 1:])

    batch = jax.random.randint(next(keys), (batch_size, length + 1), 0, vocab)
    return Problem(loss_fn, params, batch)
