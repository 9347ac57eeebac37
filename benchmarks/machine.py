"""Where and with what a measurement was made."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "optax", "python-somax")
PACKAGES += ("torch", "torch-optimizer", "pytorch_optimizer")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_available() -> int:
    """Bytes that can be had without swapping, where the system tells; else those it has."""
    available = _field("/proc/meminfo", "MemAvailable")
    return int(available.split()[0]) * 1024 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe() -> dict[str, Any]:
    """Machine, versions and commit, for the record of a measurement."""
    installed = {distribution.name: distribution.version for distribution in importlib.metadata.distributions()}
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "devices": [device.device_kind for device in jax.devices()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
        "commit": _commit(),
    }


def _field(path: str, name: str) -> str | None:
    """What follows a name and a colon in one of Linux's files."""
    lines = pathlib.Path(path).read_text().splitlines() if os.path.exists(path) else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _commit() -> str | None:
    """The commit, "-dirty" if code differs from it (tables and records do not count), or None outside of a clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/*.py")
        return git("describe", "--always") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
