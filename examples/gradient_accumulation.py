"""One step from several micro-batches: value, gradient and curvature accumulate, each with a probe of its own.

    python -m examples.gradient_accumulation --batch-size 256 --micro-batches 8

The memory is that of one micro-batch, the gradient that of the whole batch. The curvature is the mean of z * Hz over
the micro-batches, with a fresh z for each: an estimate from as many probes, at the cost of one over the whole batch.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits, positive_int


def accumulate(estimate, key, params, micro_batches):
    """The means over the micro-batches of what `estimate` returns: loss, gradient and, with a key, diagonal."""
    number = len(jax.tree.leaves(micro_batches)[0])

    def add(total, index_and_batch):
        index, batch = index_and_batch
        own_key = None if key is None else jax.random.fold_in(key, index)
        return optax.tree.add(total, estimate(own_key, params, batch)), None

    diagonal = None if key is None else optax.tree.zeros_like(params)
    nothing = jnp.zeros([]), optax.tree.zeros_like(params), diagonal
    total, _ = jax.lax.scan(add, nothing, (jnp.arange(number), micro_batches))
    return optax.tree.scale(1 / number, total)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive_int, default=200, help="training steps (%(default)s)")
    add("--batch-size", type=positive_int, default=256, help="rows of one step (%(default)s)")
    add("--micro-batches", type=positive_int, default=8, help="parts of a batch (%(default)s)")
    args = parser.parse_args()
    if args.batch_size % args.micro_batches:
        parser.error(f"--batch-size (={args.batch_size}) must be divisible by --micro-batches (={args.micro_batches})")

    train_data, test_data = digits.load()
    rate = optax.cosine_decay_schedule(0.15, args.steps)
    rule = oah.adahessian(rate, b1=0, b2=0.98, eps=1e-8)
    tx = optax.chain(oah.adaptive_nesterov(), rule, optax.clip(0.01))
    params, key = digits.init_params(jax.random.key(0)), jax.random.key(1)
    opt_state = tx.init(params)
    estimate = oah.value_grad_and_hessian_diag(digits.loss_fn)

    @jax.jit
    def train_step(params, opt_state, key, batch):
        micro_batches = jax.tree.map(lambda a: a.reshape(args.micro_batches, -1, *a.shape[1:]), batch)
        loss, grads, hessian_diag = accumulate(estimate, key, params, micro_batches)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), opt_state, loss

    for either in (key, None):  # compiled before the bar starts to estimate the remaining time
        train_step.lower(params, opt_state, either, digits.batch_at(0, train_data, args.batch_size)).compile()
    progress = tqdm(range(args.steps))
    for step in progress:
        due = oah.refresh_key(key, step, update_interval=10)
        batch = digits.batch_at(step, train_data, args.batch_size)
        params, opt_state, loss = train_step(params, opt_state, due, batch)
        progress.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
    print(
        f"{args.steps} steps of {args.micro_batches} micro-batches with {args.batch_size // args.micro_batches} rows: "
        f"loss {float(loss):.4f}, test accuracy {digits.accuracy(params, test_data):.4f}"
    )


if __name__ == "__main__":
    main()
