"""How long `import optax_adahessian` takes beside `import optax`, which it contains.

Run it with `python -m benchmarks.import_time`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
from tqdm import tqdm

MODULES = ("optax", "optax_adahessian")


def seconds(module: str) -> float:
    """The time of one import in a fresh process, without the start of the interpreter."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Imports both in turn, so that drift hits both alike, and prints medians and quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="imports of each (default: 15)")
    rounds = parser.parse_args().rounds
    times = np.array([[seconds(module) for module in MODULES] for _ in tqdm(range(rounds + 1))])[1:]
    for module, column in zip(MODULES, times.T, strict=True):
        low, median, high = np.percentile(column, [25, 50, 75])
        print(f"{module:18}{median:7.3f} s  (quartiles {low:.3f} to {high:.3f})")
    print(f"{'ratio':18}{np.median(times[:, 1] / times[:, 0]):7.3f}")


if __name__ == "__main__":
    main()
