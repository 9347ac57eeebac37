"""Several processes train one net, and end with the same parameters.

On one machine, which starts them all on the loopback address:

    python -m examples.multi_process --processes 2 --devices 2

On a cluster, the same file once on each machine, by flags or by the environment (JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES, JAX_PROCESS_ID):

    python -m examples.multi_process --coordinator 10.0.0.1:1234 --processes 2 --process-id 0

With --checkpoints DIRECTORY the run survives the loss of a process; --fail-at 60 kills one to show it.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import optax_adahessian as oah
from examples import digits, positive_int


def optimizer(steps):
    """The recommended call."""
    rule = oah.adahessian(optax.cosine_decay_schedule(0.15, steps), b1=0, b2=0.98, eps=1e-8)
    return optax.chain(oah.adaptive_nesterov(), rule, optax.clip(0.01))


def make_step(tx, mesh):
    """A step over all devices: parameters and key replicated, the batch split. Compiled with a key, and with None."""
    estimate = oah.value_grad_and_hessian_diag(digits.loss_fn, axis_name="data")

    def step(params, opt_state, key, batch):  # the same key on all devices: shared probes
        loss, grads, hessian_diag = estimate(key, params, batch)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), opt_state, loss

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P(), P("data")), out_specs=P())
    return jax.jit(mapped, donate_argnums=(0, 1))


def train(args):
    """What each process does."""
    if args.devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", args.devices)
    jax.distributed.initialize(args.coordinator, args.processes, args.process_id)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    train_data, test_data = digits.load()
    tx, key = optimizer(args.steps), jax.random.key(1)
    params = jax.jit(lambda: digits.init_params(jax.random.key(0)), out_shardings=replicated)()
    opt_state = jax.jit(tx.init, out_shardings=replicated)(params)
    train_step = make_step(tx, mesh)

    checkpoints, start = None, 0
    if args.checkpoints:
        checkpoints = open_checkpoints(args.checkpoints, args.checkpoint_every)
        start = checkpoints.latest_step() or 0
    if start:
        params, opt_state = checkpoints.restore(start, args=ocp.args.StandardRestore((params, opt_state)))

    def rows_at(step):
        batch = digits.batch_at(step, train_data, args.batch_size)
        return [jax.make_array_from_callback(a.shape, split, lambda index, a=a: a[index]) for a in batch]

    for either in (key, None):  # compiled before the bar starts to estimate the remaining time
        train_step.lower(params, opt_state, either, rows_at(start)).compile()
    progress = tqdm(range(start, args.steps), disable=args.process_id > 0)
    for step in progress:
        due = oah.refresh_key(key, step, args.update_interval)
        params, opt_state, loss = train_step(params, opt_state, due, rows_at(step))
        # Waits for the step: collectives of several steps in flight can block each other's threads on CPUs.
        progress.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
        if checkpoints:
            checkpoints.save(step + 1, args=ocp.args.StandardSave((params, opt_state)))
        if step + 1 == args.fail_at and not start and args.process_id == args.processes - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    report(args, params, float(loss), test_data)


def open_checkpoints(directory, every):
    """Orbax's manager, with which all processes write together."""
    options = ocp.CheckpointManagerOptions(save_interval_steps=every, max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager(Path(directory).resolve(), options=options)


def report(args, params, loss, test_data):
    """Compares the copies of all devices of all processes, and prints one line."""
    copies = [jax.tree.map(lambda a, i=i: a.addressable_data(i), params) for i in range(jax.local_device_count())]
    own = np.array([digits.fingerprint(copy) for copy in copies], np.uint32)
    different = np.unique(multihost_utils.process_allgather(own))
    if len(different) > 1:
        sys.exit(f"the parameters differ between devices: {len(different)} fingerprints")
    if args.process_id == 0:
        accuracy = digits.accuracy(jax.device_get(copies[0]), test_data)
        print(
            f"{args.processes} processes, {jax.device_count()} devices: loss {loss:.6f}, test accuracy {accuracy:.4f}, "
            f"all ended with the same parameters (fingerprint {different[0]:08x})"
        )


def launch(args):
    """Starts all processes on this machine; one that fails ends them all. Returns its exit status, else 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # so that `finally` ends them all
    common = [sys.executable, __file__, *sys.argv[1:], "--coordinator", coordinator]
    processes = [subprocess.Popen([*common, "--process-id", str(i)]) for i in range(args.processes)]
    try:
        while True:
            statuses = [process.poll() for process in processes]
            failed = [status for status in statuses if status]
            if failed or None not in statuses:
                return failed[0] if failed else 0
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    env = os.environ.get
    add("--processes", type=positive_int, default=env("JAX_NUM_PROCESSES", "2"), help="number of processes (2)")
    add("--process-id", type=int, default=env("JAX_PROCESS_ID"), help="which one this is; without it, start them all")
    add("--coordinator", default=env("JAX_COORDINATOR_ADDRESS"), help="host:port of process 0")
    add("--devices", type=positive_int, help="use so many CPU devices in each process, instead of all accelerators")
    add("--steps", type=positive_int, default=200, help="training steps (%(default)s)")
    add("--batch-size", type=positive_int, default=64, help="rows of a batch over all devices (%(default)s)")
    add(
        "--update-interval",
        type=positive_int,
        default=10,
        help="steps between estimates of the curvature (%(default)s)",
    )
    add("--checkpoints", metavar="DIRECTORY", help="save here, and resume from here; all processes must see it")
    add("--checkpoint-every", type=positive_int, default=25, help="steps between checkpoints (%(default)s)")
    add(
        "--fail-at",
        type=positive_int,
        metavar="STEP",
        help="the last process kills itself after this step of a fresh run",
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.process_id is not None:
        return train(args)
    status = launch(args)
    if status and args.checkpoints:
        print(f"a process ended with status {status}: starting all of them again from the last checkpoint", flush=True)
        status = launch(args)
    return status


if __name__ == "__main__":
    sys.exit(main())
