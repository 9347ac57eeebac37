"""ResNet-20 on CIFAR-10 by the recipe of the AdaHessian paper.

    python -m examples.cifar10_resnet20 --data FOLDER

FOLDER holds the archive called "CIFAR-10 python version" (cifar-10-python.tar.gz), or what was extracted from it. The
recipe: 160 epochs, batches of 256, learning rate 0.15 and a tenth of it after each of 80 and 120 epochs, weight decay
5e-4/0.15, the paper's rule with an estimate at every step, random crops and flips. It needs an accelerator. An
--update-interval above 1 is no part of the recipe, and adds a clip after the rule.
"""

import argparse
import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import optax_adahessian as oah
from examples import cifar10, positive_int

LEARNING_RATE = 0.15


class ResNet(nn.Module):
    """He et al.'s for CIFAR-10: three stages, shortcuts without parameters; 3 blocks in each make 20 layers."""

    blocks: int = 3
    width: int = 16

    @nn.compact
    def __call__(self, x, train):
        conv = functools.partial(nn.Conv, kernel_size=(3, 3), use_bias=False, kernel_init=nn.initializers.he_normal())
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm()(conv(self.width)(x)))
        for stage in range(3):
            features = self.width * 2**stage
            for block in range(self.blocks):
                strides = 2 if stage and not block else 1
                y = nn.relu(norm()(conv(features, strides=strides)(x)))
                y = norm()(conv(features)(y))
                x = x[:, ::strides, ::strides]
                more = features - x.shape[-1]
                x = nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def learning_rate(epochs, steps_per_epoch):
    """The paper's steps at 80 and 120 of 160 epochs: at the half and at three quarters of any run."""
    steps = epochs * steps_per_epoch
    return optax.piecewise_constant_schedule(LEARNING_RATE, {steps // 2: 0.1, steps * 3 // 4: 0.1})


def optimizer(rate, update_interval):
    """The paper's rule, which needs a clip if most steps are without an estimate."""
    rule = oah.adahessian(
        rate,
        weight_decay=5e-4 / LEARNING_RATE,  # the authors' script divides its 5e-4 by the initial rate
        spatial_average=oah.SpatialAverage.conv("HWIO"),
    )
    return rule if update_interval == 1 else optax.chain(rule, optax.clip(0.01))


def make_step(model, tx):
    """The step of the loop: compiled with a key, and with None for a step without an estimate."""

    def loss_fn(params, batch_stats, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated["batch_stats"]

    estimate = oah.value_grad_and_hessian_diag(loss_fn, has_aux=True)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, batch_stats, opt_state, key, images, labels):
        (loss, batch_stats), grads, hessian_diag = estimate(key, params, batch_stats, images, labels)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss

    return step


def train(model, data, normalize, args):
    """Trains with a progress bar, and returns the variables of the model."""
    images, labels = data
    steps_per_epoch = len(labels) // args.batch_size  # a last batch that is not full is left out
    key = jax.random.key(args.seed)
    variables = jax.jit(functools.partial(model.init, train=False))(key, jnp.zeros((1, *images.shape[1:])))
    params, batch_stats = variables["params"], variables["batch_stats"]
    tx = optimizer(learning_rate(args.epochs, steps_per_epoch), args.update_interval)
    opt_state, train_step = tx.init(params), make_step(model, tx)
    some = normalize(images[: args.batch_size]), labels[: args.batch_size]
    for either in (key, None)[: min(args.update_interval, 2)]:  # compiled before the bar starts
        train_step.lower(params, batch_stats, opt_state, either, *some).compile()

    rng = np.random.default_rng(args.seed)
    progress = tqdm(range(args.epochs * steps_per_epoch), unit="step")
    for step in progress:
        if step % steps_per_epoch == 0:
            order = rng.permutation(len(labels))
        rows = order[step % steps_per_epoch * args.batch_size :][: args.batch_size]
        batch = normalize(cifar10.random_crops_and_flips(rng, images[rows])), labels[rows]
        due = oah.refresh_key(key, step, args.update_interval)
        params, batch_stats, opt_state, loss = train_step(params, batch_stats, opt_state, due, *batch)
        if step % 20 == 0:
            progress.set_postfix(epoch=step // steps_per_epoch, loss=f"{float(loss):.3f}", refresh=False)
    return {"params": params, "batch_stats": batch_stats}


def accuracy(model, variables, data, normalize, batch_size=1000):
    """The share of images that are classified right, by the running averages of the batch normalization."""
    images, labels = data
    logits_fn = jax.jit(lambda images: model.apply(variables, images, train=False))
    starts = range(0, len(labels), batch_size)
    logits = [logits_fn(normalize(images[start : start + batch_size])) for start in starts]
    return float(np.mean(np.argmax(np.concatenate(logits), axis=-1) == labels))


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="FOLDER", required=True, help=f"where {cifar10.ARCHIVE} or {cifar10.EXTRACTED} is")
    add("--epochs", type=positive_int, default=160, help="passes over the training images (%(default)s)")
    add("--batch-size", type=positive_int, default=256, help="images per step (%(default)s)")
    add(
        "--update-interval", type=positive_int, default=1, help="steps between estimates of the curvature (%(default)s)"
    )
    add("--blocks", type=positive_int, default=3, help="residual blocks in each of the three stages (%(default)s)")
    add("--width", type=positive_int, default=16, help="channels of the first stage (%(default)s)")
    add("--seed", type=int, default=0, help="of weights, batches, crops and probes (%(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    try:
        train_data, test_data = cifar10.load(args.data)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    if args.batch_size > len(train_data[1]):
        sys.exit(f"error: --batch-size (={args.batch_size}) is more than the {len(train_data[1])} training images.")
    normalize = cifar10.normalizer(train_data[0])
    model = ResNet(args.blocks, args.width)
    variables = train(model, train_data, normalize, args)
    print(f"{args.epochs} epochs: test accuracy {accuracy(model, variables, test_data, normalize):.4f}")


if __name__ == "__main__":
    main()
