"""Scikit-learn's digits, a small net for them, and a fingerprint of its parameters: shared by the other examples."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

TEST_SIZE = 297


def load():
    """``(train, test)``, each a pair of images, shape=(n, 64), and labels."""
    images, labels = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[shuffled] / 8 - 1).astype(np.float32), labels[shuffled].astype(np.int32)
    return (images[:-TEST_SIZE], labels[:-TEST_SIZE]), (images[-TEST_SIZE:], labels[-TEST_SIZE:])


def batch_at(step, data, batch_size):
    """The batch of a step depends on nothing but the step, so that a run can resume anywhere."""
    rows = np.random.default_rng(step).choice(len(data[1]), batch_size, replace=False)
    return data[0][rows], data[1][rows]


def init_params(key):
    """One hidden layer of 64."""
    keys = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(keys[0], (64, 64)) / 8, "bias": jnp.zeros(64)},
        "output": {"kernel": jax.random.normal(keys[1], (64, 10)) / 8, "bias": jnp.zeros(10)},
    }


def apply(params, images):
    """The logits."""
    hidden = jnp.tanh(images @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return hidden @ params["output"]["kernel"] + params["output"]["bias"][None]


def loss_fn(params, batch):
    """The mean cross-entropy."""
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, images), labels).mean()


def accuracy(params, data):
    """The share of images that are classified right."""
    images, labels = data
    return float(np.mean(np.argmax(apply(params, images), axis=-1) == labels))


def fingerprint(params):
    """32 bits that differ as soon as one bit of the parameters does."""
    data = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    return int.from_bytes(hashlib.sha256(data).digest()[:4])
