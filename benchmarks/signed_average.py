"""What the signed block mean does to the learning rate: the test loss of the digits MLP against the peak rate.

Run it with `python -m benchmarks.signed_average`.
"""

from __future__ import annotations

import argparse

from tqdm import tqdm

import optax_adahessian as oah
from benchmarks import digits_mlp

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
AVERAGES = {
    "rows": lambda signed: oah.SpatialAverage.rows("HWIO", signed=signed),
    "lengths of 8": lambda signed: oah.SpatialAverage.lengths(8, "HWIO", signed=signed),
}


def main() -> None:
    """Prints a table of mean test losses over seeds, a row for each average and a column for each rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    seeds = range(parser.parse_args().seeds)
    print(f"{'average':14}{'block mean':12}" + "".join(f"{rate:>9}" for rate in RATES))
    settings = [(name, signed) for name in AVERAGES for signed in (False, True)]
    for name, signed in tqdm(settings, unit="setting"):
        optimizers = [digits_mlp.adahessian(1, 0, AVERAGES[name](signed), rate) for rate in RATES]
        losses = [digits_mlp.final_losses(tx, seeds).mean() for tx in optimizers]
        tqdm.write(f"{name:14}{'signed' if signed else 'absolute':12}" + "".join(f"{loss:9.4f}" for loss in losses))


if __name__ == "__main__":
    main()
