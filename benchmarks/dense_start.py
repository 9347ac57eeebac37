"""What the dense start is for: the test loss of the digits MLP against interval and dense start.

Run it with `python -m benchmarks.dense_start`.
"""

from __future__ import annotations

import argparse

from tqdm import tqdm

import optax_adahessian as oah
from benchmarks import digits_mlp

AVERAGES = {"elementwise": oah.SpatialAverage.none(), "rows": oah.SpatialAverage.rows("HWIO")}


def main() -> None:
    """Prints a table of mean test losses over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    parser.add_argument("--rate", type=float, default=0.1, help="peak learning rate (default: 0.1)")
    options = parser.parse_args()
    settings = [(interval, dense) for interval in (1, 10, 50) for dense in (1, 3, 10, 30) if interval > 1 or dense == 1]
    print(f"{'interval':>8}{'dense start':>13}" + "".join(f"{name:>13}" for name in AVERAGES))
    for interval, dense in tqdm(settings, unit="setting"):
        losses = [
            digits_mlp.final_losses(
                digits_mlp.adahessian(interval, dense, average, options.rate), range(options.seeds)
            ).mean()
            for average in AVERAGES.values()
        ]
        tqdm.write(f"{interval:>8}{dense:>13}" + "".join(f"{loss:>13.4f}" for loss in losses))


if __name__ == "__main__":
    main()
