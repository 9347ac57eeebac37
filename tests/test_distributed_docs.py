"""The page on distributed training on eight devices: every loop runs, and those with shared probes end alike."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "distributed.md"
OTHER_PROBES = {"ensemble"}


@pytest.mark.long
def test_every_loop_of_the_page():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    eight_devices = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(command, env=eight_devices, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    losses = {way: float(loss) for way, loss in re.findall(r"^(.*): (.*)$", done.stdout, flags=re.MULTILINE)}
    assert len(losses) == len(re.findall(r'\btrain\("', PAGE.read_text()))
    shared = {way: loss for way, loss in losses.items() if way not in OTHER_PROBES}
    assert shared == pytest.approx(dict.fromkeys(shared, losses["one device"]), abs=1e-5)
    assert all(losses[way] < 0.2 for way in OTHER_PROBES)
