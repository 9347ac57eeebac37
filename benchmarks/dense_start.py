"""What the dense start is for: the test loss of the digits MLP against interval and dense start.

Run it with `python -m benchmarks.dense_start`.
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

from benchmarks import digits_mlp


def main() -> None:
    """Prints a table of mean test losses over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    parser.add_argument("--rate", type=float, default=0.1, help="peak learning rate (default: 0.1)")
    options = parser.parse_args()
    settings = [(interval, dense) for interval in (1, 10, 50) for dense in (1, 3, 10, 30) if interval > 1 or dense == 1]
    print(f"{'interval':>8}{'dense start':>13}{'elementwise':>13}{'rows':>9}")
    for interval, dense in tqdm(settings, unit="setting"):
        losses = [
            np.mean(
                [
                    digits_mlp.final_loss(
                        digits_mlp.adahessian(interval, dense, rows=rows, peak=options.rate), seed=seed
                    )
                    for seed in range(options.seeds)
                ]
            )
            for rows in (False, True)
        ]
        tqdm.write(f"{interval:>8}{dense:>13}{losses[0]:>13.4f}{losses[1]:>9.4f}")


if __name__ == "__main__":
    main()
