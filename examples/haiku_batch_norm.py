"""Haiku with batch statistics: a convolutional network with batch norm on scikit-learn's digits.

    python -m examples.haiku_batch_norm

The state of `hk.transform_with_state`, here the running statistics, is auxiliary output of the loss. The curvature is
that of the loss in training, through the statistics of the batch.
"""

import argparse

import haiku as hk
import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits


def conv_net(images, training):
    """Two convolutions with batch norm and a dense layer for images of 8 x 8 pixels."""
    x = images.reshape(-1, 8, 8, 1)
    for channels, stride in ((16, 1), (32, 2)):
        x = hk.Conv2D(channels, 3, stride, with_bias=False)(x)
        x = jax.nn.silu(hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, training))
    return hk.Linear(10)(x.reshape(-1, 4 * 4 * 32))


model = hk.without_apply_rng(hk.transform_with_state(conv_net))


def loss_fn(params, statistics, batch):
    """The mean cross-entropy in training, and the new running statistics."""
    images, labels = batch
    logits, statistics = model.apply(params, statistics, images, training=True)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), statistics


estimate = oah.value_grad_and_hessian_diag(loss_fn, has_aux=True)


def make_train_step(tx):
    """A step that estimates the curvature if there is a key: two programs, each compiled once."""

    @jax.jit
    def train_step(params, statistics, opt_state, batch, key=None):
        if key is None:
            (loss, statistics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, statistics, batch)
            hessian_diag = None
        else:
            (loss, statistics), grads, hessian_diag = estimate(key, params, statistics, batch)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), statistics, opt_state, loss

    return train_step


@jax.jit
def evaluate(params, statistics, data):
    """Accuracy and loss with the running statistics."""
    images, labels = data
    logits, _ = model.apply(params, statistics, images, training=False)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels), loss


def main(argv=None):
    """Trains, and prints the metric reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="training steps (%(default)s)")
    args = parser.parse_args(argv)

    train_data, test_data = digits.load()
    spatial_average = oah.SpatialAverage.rows("HWIO")
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
    init = jax.jit(model.init, static_argnames="training")
    params, statistics = init(jax.random.key(0), train_data[0][:1], training=True)
    print(spatial_average.describe(params))
    opt_state, train_step = tx.init(params), make_train_step(tx)
    progress = tqdm(range(args.steps), unit="step")
    for step in progress:
        key = jax.random.fold_in(jax.random.key(1), step) if oah.refresh_due(step, 10) else None
        batch = digits.batch_at(step, train_data, 64)
        params, statistics, opt_state, loss = train_step(params, statistics, opt_state, batch, key)
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    accuracy, loss = evaluate(params, statistics, test_data)
    print(f"test accuracy {accuracy:.1%}, test loss {loss:.4f}")
    return statistics


if __name__ == "__main__":
    main()
