"""Several processes over JAX's runtime: the example, as it is started on one machine."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from examples import digits, multi_process

ROOT = Path(__file__).parent.parent
STEPS = 60


def run(checkpoints, *flags, entry=("-m", "examples.multi_process")):
    command = [sys.executable, *entry, "--steps", STEPS, "--checkpoint-every", 20, "--checkpoints", checkpoints, *flags]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def saved_params(checkpoints):
    params = digits.init_params(jax.random.key(0))
    like = params, multi_process.optimizer(STEPS).init(params)
    with ocp.CheckpointManager(checkpoints) as manager:
        assert manager.latest_step() == STEPS
        return jax.tree.leaves(manager.restore(STEPS, args=ocp.args.StandardRestore(like))[0])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("two_processes")
    return checkpoints, run(checkpoints, "--processes", 2, "--devices", 2)


@pytest.mark.long
def test_two_processes_end_with_the_same_parameters_as_one(two_processes, tmp_path):
    checkpoints, lines = two_processes
    script = (str(ROOT / "examples" / "multi_process.py"),)
    alone = run(tmp_path, "--processes", 1, "--devices", 4, entry=script)
    assert lines[-1].startswith("2 processes, 4 devices: ")
    assert alone[-1].startswith("1 processes, 4 devices: ")
    assert "all ended with the same parameters" in lines[-1]
    for a, b in zip(saved_params(checkpoints), saved_params(tmp_path), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.long
def test_a_run_survives_the_loss_of_a_process(two_processes, tmp_path):
    lines = run(tmp_path, "--processes", 2, "--devices", 2, "--fail-at", 50)
    assert any("starting all of them again from the last checkpoint" in line for line in lines)
    assert lines[-1] == two_processes[1][-1]  # the fingerprint of all bits of the parameters, too
