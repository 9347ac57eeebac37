"""What the signed block mean does to the learning rate: the test loss of the digits MLP against the peak rate.

Run it with `python -m benchmarks.signed_average`.
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks import digits_mlp

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
AVERAGES = {
    "rows": lambda signed: oah.SpatialAverage.rows("HWIO", signed=signed),
    "lengths of 8": lambda signed: oah.SpatialAverage.lengths(8, "HWIO", signed=signed),
}


def mean_loss(average: oah.SpatialAverage, rate: float, seeds: int) -> float:
    """The test loss with an estimate at every step, averaged over seeds."""
    tx = oah.adahessian(digits_mlp.cosine(rate), spatial_average=average)
    return float(np.mean([digits_mlp.final_loss(tx, seed=seed) for seed in range(seeds)]))


def main() -> None:
    """Prints a table of mean test losses over seeds, a row for each average and a column for each rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    seeds = parser.parse_args().seeds
    print(f"{'average':14}{'block mean':12}" + "".join(f"{rate:>9}" for rate in RATES))
    settings = [(name, signed) for name in AVERAGES for signed in (False, True)]
    for name, signed in tqdm(settings, unit="setting"):
        losses = [mean_loss(AVERAGES[name](signed), rate, seeds) for rate in RATES]
        tqdm.write(f"{name:14}{'signed' if signed else 'absolute':12}" + "".join(f"{loss:9.4f}" for loss in losses))


if __name__ == "__main__":
    main()
