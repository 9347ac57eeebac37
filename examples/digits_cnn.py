"""A convolutional network on scikit-learn's digits: AdaHessian with an estimate every 10 steps, beside AdamW.

AdaHessian is the recommended call: `adaptive_nesterov`, the rule, and a clip. Initial weights, batches and schedule are
the same. Run it with `make demo`, or `python -m examples.digits_cnn`.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from sklearn.datasets import load_digits
from tqdm import tqdm

import optax_adahessian as oah
from examples import positive_int

matplotlib.use("agg")
import matplotlib.pyplot as plt

UPDATE_INTERVAL = 10


class ConvNet(nn.Module):
    """Two 3 x 3 convolutions and two dense layers, for 8 x 8 images."""

    @nn.compact
    def __call__(self, x):
        x = nn.silu(nn.Conv(16, (3, 3))(x))
        x = nn.silu(nn.Conv(32, (3, 3), strides=2)(x))
        x = nn.silu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


model = ConvNet()


def loss_fn(params, batch):
    """The mean cross-entropy, and the accuracy as auxiliary output."""
    images, labels = batch
    logits = model.apply(params, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, jnp.mean(jnp.argmax(logits, axis=-1) == labels)


class Run(NamedTuple):
    """What one optimizer did."""

    losses: np.ndarray  # of the batches, shape=(steps,)
    seconds: float  # of the training loop, without compilation
    test_loss: float
    test_accuracy: float


def train(name, tx, params, batches, test_data, second_order):
    """Trains on the batches in turn, with a progress bar."""
    estimate = oah.value_grad_and_hessian_diag(loss_fn, has_aux=True)
    tx = optax.with_extra_args_support(tx)  # AdamW ignores `hessian_diag`

    @jax.jit
    def step(params, opt_state, key, batch):
        (loss, accuracy), grads, hessian_diag = estimate(key, params, batch)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), opt_state, loss, accuracy

    opt_state, key = tx.init(params), jax.random.key(0)
    for either in (None, key)[: 1 + second_order]:  # compiled before the bar and the clock start
        step.lower(params, opt_state, either, batches[0]).compile()

    losses, started = [], time.perf_counter()
    with tqdm(batches, desc=f"{name:10}", unit="step") as progress:
        for t, batch in enumerate(progress):
            due = oah.refresh_key(key, t, UPDATE_INTERVAL) if second_order else None
            params, opt_state, loss, accuracy = step(params, opt_state, due, batch)
            losses.append(loss)
            if t % 20 == 0:
                progress.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracy:.1%}", refresh=False)
        jax.block_until_ready(params)
        seconds = time.perf_counter() - started

    test_loss, test_accuracy = jax.jit(loss_fn)(params, test_data)
    return Run(np.array(losses), seconds, float(test_loss), float(test_accuracy))


def load_data(steps, batch_size, seed):
    """Random batches of 1,437 digits, and the 360 others to test on."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    images = (digits.images[order, :, :, None] / 16).astype(np.float32)
    labels = digits.target[order]
    train_size = len(order) - 360
    rows = rng.integers(train_size, size=(steps, batch_size))
    batches = [(jnp.asarray(images[i]), jnp.asarray(labels[i])) for i in rows]
    return batches, (images[train_size:], labels[train_size:])


def table(runs):
    """Test accuracy, test loss and cost of each run, the cost also in steps of AdamW."""
    lines = [f"{'':12}{'test accuracy':>14}{'test loss':>11}{'seconds':>9}{'ms/step':>9}{'AdamW steps':>13}"]
    for name, run in runs.items():
        ratio = run.seconds / runs["AdamW"].seconds
        lines.append(
            f"{name:12}{run.test_accuracy:>14.1%}{run.test_loss:>11.4f}{run.seconds:>9.1f}"
            f"{1000 * run.seconds / len(run.losses):>9.2f}{ratio:>13.2f}"
        )
    return "\n".join(lines)


def draw(runs, path):
    """Writes the loss curves, each smoothed over 20 steps, as a picture."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, run), color in zip(runs.items(), ("#0072B2", "#D55E00"), strict=True):
        axes.plot(run.losses, color=color, alpha=0.2)
        window = min(20, len(run.losses))
        smooth = np.convolve(run.losses, np.ones(window) / window, mode="valid")
        axes.plot(
            np.arange(len(smooth)) + window - 1, smooth, color=color, label=f"{name}: test loss {run.test_loss:.4f}"
        )
    axes.set(
        yscale="log",
        xlabel="step",
        ylabel="training loss",
        title="Convolutional network on digits: one run each, not averaged",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv=None):
    """Trains with both optimizers, prints the table and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=positive_int, default=600, help="training steps of each optimizer (default: 600)"
    )
    parser.add_argument("--batch-size", type=positive_int, default=128, help="images per step (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    parser.add_argument("--picture", type=Path, default=Path("out/digits_cnn.png"), help="where the curves go")
    options = parser.parse_args(argv)

    batches, test_data = load_data(options.steps, options.batch_size, options.seed)
    params = jax.jit(model.init)(jax.random.key(options.seed), batches[0][0])

    # AdaHessian has the recommended rate and clip, without a search. AdamW's rate is the best of five on a quarter of
    # the training digits, held out, and the warm-up the better of two.
    def schedule(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, options.steps // 5, options.steps)

    rule = oah.adahessian(schedule(0.15), b1=0, b2=0.98, eps=1e-8)
    adahessian = optax.chain(oah.adaptive_nesterov(), rule, optax.clip(0.01))
    adamw = optax.adamw(schedule(0.0015))
    runs = {
        "AdaHessian": train("AdaHessian", adahessian, params, batches, test_data, second_order=True),
        "AdamW": train("AdamW", adamw, params, batches, test_data, second_order=False),
    }
    draw(runs, options.picture)
    print(f"\n{table(runs)}\n\nOne run each, so a difference may be chance: docs/results.md compares over seeds.")
    print(f"The loss curves are in {options.picture}.")
    return runs


if __name__ == "__main__":
    main()
