"""A training run that is killed and resumed ends, bit for bit, as the run that was not.

    python -m examples.checkpoint

trains once in one go, and once more in a process that is killed half way and started again. What a training loop of
your own needs is in `train`: parameters, optimizer state and the number of the step are the whole state of a run. The
keys of the probes follow from the number of the step, so that a run can stop between two estimates.

    python -m examples.checkpoint --directory out/run

trains, or resumes, in a directory, and can be interrupted by hand.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import optax
import orbax.checkpoint as ocp
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits, positive_int


def train(args, directory=None):
    """Trains to the end, from the last checkpoint in the directory if there is one. Returns the parameters."""
    train_data, _ = digits.load()
    rate = optax.cosine_decay_schedule(0.15, args.steps)
    rule = oah.adahessian(rate, b1=0, b2=0.98, eps=1e-8)
    tx = optax.chain(oah.adaptive_nesterov(), rule, optax.clip(0.01))
    estimate = oah.value_grad_and_hessian_diag(digits.loss_fn)
    params, key = digits.init_params(jax.random.key(0)), jax.random.key(1)
    opt_state = tx.init(params)

    @jax.jit
    def train_step(params, opt_state, key, batch):
        _, grads, hessian_diag = estimate(key, params, batch)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), opt_state

    checkpoints, start = None, 0
    if directory:
        options = ocp.CheckpointManagerOptions(save_interval_steps=args.every, max_to_keep=2)
        checkpoints = ocp.CheckpointManager(Path(directory).resolve(), options=options)
        start = checkpoints.latest_step() or 0
    if start:
        params, opt_state = checkpoints.restore(start, args=ocp.args.StandardRestore((params, opt_state)))
    for either in (key, None):  # compiled before the bar starts to estimate the remaining time
        train_step.lower(params, opt_state, either, digits.batch_at(start, train_data, 64)).compile()
    for step in tqdm(range(start, args.steps), initial=start, total=args.steps):
        due = oah.refresh_key(key, step, update_interval=10)
        params, opt_state = train_step(params, opt_state, due, digits.batch_at(step, train_data, 64))
        if checkpoints:
            checkpoints.save(step + 1, args=ocp.args.StandardSave((params, opt_state)))
    if checkpoints:
        checkpoints.close()
    return params


def train_and_kill(command, directory, step):
    """Starts a training process, and kills it once it has saved the given step or a later one."""
    process = subprocess.Popen(command)
    try:
        while last_checkpoint(directory) < step:
            if process.poll() is not None:
                sys.exit(f"the process ended with status {process.returncode} before it could be killed")
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


def last_checkpoint(directory):
    return max((int(path.name) for path in Path(directory).iterdir() if path.name.isdigit()), default=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", help="train or resume here; without it, show the whole story in a temporary one")
    parser.add_argument("--steps", type=positive_int, default=400, help="training steps (%(default)s)")
    parser.add_argument("--every", type=positive_int, default=7, help="steps between checkpoints (%(default)s)")
    args = parser.parse_args()
    if args.directory:
        print(f"{digits.fingerprint(train(args, args.directory)):08x}")
        return

    if args.steps < 2 * args.every:
        parser.error(f"--steps (={args.steps}) must be at least twice --every (={args.every}), to be killed in between")
    in_one_go = train(args)
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--directory", directory]
        command += ["--steps", str(args.steps), "--every", str(args.every)]
        train_and_kill(command, directory, step=args.steps // 2)
        resumed_from = last_checkpoint(directory)
        resumed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    same = resumed == f"{digits.fingerprint(in_one_go):08x}"
    print(
        f"killed after the checkpoint of step {resumed_from}, resumed to step {args.steps}: "
        f"{'bit for bit the parameters' if same else 'NOT the parameters'} of the run in one go; "
        f"test accuracy {digits.accuracy(in_one_go, digits.load()[1]):.4f}"
    )
    sys.exit(not same)


if __name__ == "__main__":
    main()
