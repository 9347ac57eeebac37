"""Flax NNX with an `nnx.Optimizer`: a convolutional network with dropout on scikit-learn's digits.

    python -m examples.flax_nnx

`nnx.Optimizer.update` hands keyword arguments on. What a Hessian-vector product needs is a loss as a function of the
parameters: `nnx.split` takes them out of the model and `nnx.merge` puts them back. All other state, here that of the
random numbers of dropout, goes in as an argument and comes out as auxiliary output.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits


class ConvNet(nnx.Module):
    """Two convolutions and a dense layer for images of 8 x 8 pixels."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.silu(self.conv1(images.reshape(-1, 8, 8, 1)))
        x = nnx.silu(self.conv2(x)).reshape(-1, 4 * 4 * 32)
        return self.output(self.dropout(x))


def loss_fn(params, rest, graphdef, batch):
    """The mean cross-entropy, and the state besides the parameters as it is after the call."""
    # A copy: the variables of `rest` belong to a trace outside of the one that differentiates.
    model = nnx.merge(graphdef, params, rest, copy=True)
    images, labels = batch
    loss = optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()
    return loss, nnx.state(model, nnx.Not(nnx.Param))


estimate = oah.value_grad_and_hessian_diag(loss_fn, has_aux=True)


@nnx.jit
def train_step(model, optimizer, batch, key=None):
    """One step, with an estimate of the curvature if there is a key: two programs, each compiled once."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    if key is None:
        (loss, rest), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, rest, graphdef, batch)
        hessian_diag = None
    else:
        (loss, rest), grads, hessian_diag = estimate(key, params, rest, graphdef, batch)
    nnx.update(model, rest)
    optimizer.update(model, grads, hessian_diag=hessian_diag)
    return loss


@nnx.jit
def evaluate(model, data):
    """Accuracy and loss without dropout."""
    images, labels = data
    logits = nnx.view(model, deterministic=True)(images)
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
    model = ConvNet(nnx.Rngs(0))
    print(spatial_average.describe(nnx.to_pure_dict(nnx.state(model, nnx.Param))))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    progress = tqdm(range(args.steps), unit="step")
    for step in progress:
        key = jax.random.fold_in(jax.random.key(1), step) if oah.refresh_due(step, 10) else None
        loss = train_step(model, optimizer, digits.batch_at(step, train_data, 64), key)
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    accuracy, loss = evaluate(model, test_data)
    print(f"test accuracy {accuracy:.1%}, test loss {loss:.4f}")
    return model


if __name__ == "__main__":
    main()
