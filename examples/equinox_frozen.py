"""Equinox with a frozen part: a convolutional network on scikit-learn's digits whose first layer is fixed.

    python -m examples.equinox_frozen

`eqx.partition` cuts a model in two trees of the same structure: what is trained, with None in the place of the rest,
and the rest. Everything here, from the probes to the table of blocks, passes over the Nones.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits


def cosine_filters():
    """The nine patterns of the discrete cosine transform of 3 x 3 pixels, shape=(9, 1, 3, 3)."""
    frequency, position = jnp.arange(3)[:, None], jnp.arange(3)[None]
    waves = jnp.cos(jnp.pi * frequency * (position + 0.5) / 3)
    waves /= jnp.linalg.norm(waves, axis=1, keepdims=True)
    return jnp.einsum("ay,bx->abyx", waves, waves).reshape(9, 1, 3, 3)


class ConvNet(eqx.Module):
    """Fixed filters, a convolution and a dense layer for an image of 8 x 8 pixels."""

    filters: eqx.nn.Conv2d
    conv: eqx.nn.Conv2d
    output: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        filters = eqx.nn.Conv2d(1, 9, 3, padding=1, use_bias=False, key=keys[0])
        self.filters = eqx.tree_at(lambda layer: layer.weight, filters, cosine_filters())
        self.conv = eqx.nn.Conv2d(9, 32, 3, stride=2, padding=1, key=keys[1])
        self.output = eqx.nn.Linear(4 * 4 * 32, 10, key=keys[2])

    def __call__(self, image):
        x = jax.nn.silu(self.filters(image.reshape(1, 8, 8)))
        return self.output(jax.nn.silu(self.conv(x)).ravel())


def split_frozen(model):
    """``(params, frozen)``: the arrays that are trained, and all else."""
    trained = jax.tree.map(eqx.is_inexact_array, model)
    return eqx.partition(model, eqx.tree_at(lambda m: m.filters, trained, replace=False))


def loss_fn(params, frozen, batch):
    """The mean cross-entropy, and the accuracy as auxiliary output."""
    images, labels = batch
    logits = jax.vmap(eqx.combine(params, frozen))(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, jnp.mean(jnp.argmax(logits, axis=-1) == labels)


estimate = oah.value_grad_and_hessian_diag(loss_fn, has_aux=True)


def make_train_step(tx):
    """A step that estimates the curvature if there is a key: two programs, each compiled once."""

    @eqx.filter_jit
    def train_step(params, opt_state, frozen, batch, key=None):
        if key is None:
            (loss, _), grads = eqx.filter_value_and_grad(loss_fn, has_aux=True)(params, frozen, batch)
            hessian_diag = None
        else:
            (loss, _), grads, hessian_diag = estimate(key, params, frozen, batch)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return eqx.apply_updates(params, updates), opt_state, loss

    return train_step


def main(argv=None):
    """Trains, and prints the metric reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="training steps (%(default)s)")
    args = parser.parse_args(argv)

    train_data, test_data = digits.load()
    spatial_average = oah.SpatialAverage.rows("OIHW")
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.15, args.steps // 5, args.steps)
    tx = oah.adahessian(
        schedule,
        b1=0.9,
        b2=0.98,
        eps=1e-4,
        spatial_average=spatial_average,
        time_average="rms",
        nesterov=False,
        max_step=None,
    )
    params, frozen = split_frozen(ConvNet(jax.random.key(0)))
    print(spatial_average.describe(params))
    opt_state, train_step = tx.init(params), make_train_step(tx)
    progress = tqdm(range(args.steps), unit="step")
    for step in progress:
        key = jax.random.fold_in(jax.random.key(1), step) if oah.refresh_due(step, 10) else None
        params, opt_state, loss = train_step(params, opt_state, frozen, digits.batch_at(step, train_data, 64), key)
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    loss, accuracy = eqx.filter_jit(loss_fn)(params, frozen, test_data)
    print(f"test accuracy {accuracy:.1%}, test loss {loss:.4f}")
    return eqx.combine(params, frozen)


if __name__ == "__main__":
    main()
