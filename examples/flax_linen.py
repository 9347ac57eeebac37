"""Flax linen with a `TrainState`: attention over the rows of scikit-learn's digits, with dropout.

    python -m examples.flax_linen

`TrainState.apply_gradients` calls the optimizer without extra arguments. A subclass of a few lines hands them on; the
loop is then the one for Adam with `obj_fn` besides. It draws its dropout mask from the key of the gradient's, since
another mask would give the curvature of another network.
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits

ROWS = oah.SpatialAverage.rows("HWIO")


class ExtraArgsTrainState(TrainState):
    """A `TrainState` whose `apply_gradients` takes what `tx.update` takes by keyword."""

    def apply_gradients(self, *, grads, **extra_args):
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params, **extra_args)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state)


class Classifier(nn.Module):
    """One transformer block on eight tokens, the rows of an image."""

    @nn.compact
    def __call__(self, images, training=False):
        normalize = nn.LayerNorm(use_scale=False, use_bias=False)
        x = nn.Dense(32)(images.reshape(-1, 8, 8))
        x += self.param("pos_embedding", nn.initializers.normal(0.1), (8, 32))[None]
        x += nn.MultiHeadDotProductAttention(num_heads=4, use_bias=False, name="attention")(normalize(x))
        x += nn.Dense(32)(nn.silu(nn.Dense(64)(normalize(x))))
        x = nn.Dropout(0.1, deterministic=not training)(x)
        return nn.Dense(10)(x.reshape(-1, 8 * 32))


def one_per_output(path, leaf):
    """One second moment for each output, as `rows`, which would take attention's kernels for convolutions."""
    if path[0].key == "attention" and path[-1].key == "kernel":
        return (-1, -1, 1) if path[1].key == "out" else (-1, 1, 1)  # (heads, size, out), or (in, heads, size)
    return ROWS.block_shape(path, leaf)


model = Classifier()


def loss_fn(params, batch, dropout_key):
    """The mean cross-entropy in training."""
    images, labels = batch
    logits = model.apply({"params": params}, images, training=True, rngs={"dropout": dropout_key})
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def train_step(state, batch, key):
    """One step; the optimizer decides whether it makes an estimate."""
    dropout_key = jax.random.fold_in(key, state.step)
    loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, dropout_key)
    return state.apply_gradients(grads=grads, obj_fn=lambda p: loss_fn(p, batch, dropout_key)), loss


@jax.jit
def evaluate(params, data):
    """Accuracy and loss without dropout."""
    images, labels = data
    logits = model.apply({"params": params}, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels), loss


def main(argv=None):
    """Trains, and prints the metric reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="training steps (%(default)s)")
    args = parser.parse_args(argv)

    train_data, test_data = digits.load()
    spatial_average = oah.SpatialAverage.custom(one_per_output)
    tx = oah.adahessian(
        optax.warmup_cosine_decay_schedule(0.0, 0.15, args.steps // 5, args.steps),
        b1=0.9,
        b2=0.98,
        eps=1e-4,
        update_interval=10,
        spatial_average=spatial_average,
        time_average="rms",
        nesterov=False,
        max_step=None,
    )
    params = jax.jit(model.init)(jax.random.key(0), train_data[0][:1])["params"]
    print(spatial_average.describe(params))
    state = ExtraArgsTrainState.create(apply_fn=model.apply, params=params, tx=tx)
    progress = tqdm(range(args.steps), unit="step")
    for step in progress:
        state, loss = train_step(state, digits.batch_at(step, train_data, 64), jax.random.key(1))
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    accuracy, loss = evaluate(state.params, test_data)
    print(f"test accuracy {accuracy:.1%}, test loss {loss:.4f}")
    return state


if __name__ == "__main__":
    main()
