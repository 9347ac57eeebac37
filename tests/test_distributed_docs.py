"""The page on distributed training: every loop runs, and those with shared probes end at the loss of one device."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "distributed.md"
SHARED_PROBES = {
    "plain jit",
    "loss in shard_map",
    "shard_map",
    "pmap",
    "fully sharded",
    "data and model",
    "explicit mesh",
    "sharded in shard_map",
}
NOT_COMPARED = {"shard_map at interval 5", "shard_map by obj_fn", "own probes", "micro-batches", "ensemble"}


@pytest.mark.long
def test_every_loop_of_the_page():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    eight_devices = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(command, env=eight_devices, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    printed = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    losses = {way: float(loss) for way, loss in printed.items()}
    alone = losses.pop("one device")
    assert set(losses) == SHARED_PROBES | NOT_COMPARED
    assert all(loss < 0.5 for loss in losses.values())
    assert {way: losses[way] for way in SHARED_PROBES} == pytest.approx(dict.fromkeys(SHARED_PROBES, alone), abs=1e-5)
