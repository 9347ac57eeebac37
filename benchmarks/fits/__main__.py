"""Models whose parameters have units: one setting of AdaHessian next to others at their best rates.

Every run takes the same number of gradients, and an estimate counts two, so Adam makes three steps for one of ours,
which is oah.adahessian(rate, b2=0.95, eps=0.0, equilibrate=True) on all fits. Each finished fit is kept in --out, in a
file for each number of gradients: Ctrl-C ends, and the same command goes on.

examples:
  python -m benchmarks.fits                          25 minutes on two cores
  python -m benchmarks.fits --fits wine claims --gradients 6000
  python -m benchmarks.fits --gradients 60           a minute: does it work?
  python -m benchmarks.fits --from benchmarks/records/fits.jsonl --publish
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

import jax
from jax.flatten_util import ravel_pytree
from tqdm import tqdm

from benchmarks import machine, pages
from benchmarks.fits import report, rows
from benchmarks.fits.models import FITS, load

ROOT = pathlib.Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not there yet, or reads an earlier run; writes tables and a picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS), help="default: all")
    parser.add_argument("--gradients", type=int, default=rows.GRADIENTS, help="of a run (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    parser.add_argument("--from", dest="earlier", type=pathlib.Path, metavar="FILE", help="the lines of an earlier run")
    parser.add_argument("--publish", action="store_true", help="also writes benchmarks/records and docs")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.earlier or options.out / f"fits_{options.gradients}.jsonl"
    if not options.earlier:
        with jax.enable_x64(True):
            _run(path, options.fits, options.gradients)
    where, *lines = map(json.loads, path.read_text().splitlines())
    text = report.tables(where, lines)
    print(text)
    (options.out / "fits.md").write_text(text)
    images = [options.out]
    if options.publish:
        (ROOT / "benchmarks" / "records" / "fits.jsonl").write_text(path.read_text())
        pages.publish({"fits": text})
        images.append(ROOT / "docs" / "images")
    for folder in images:
        if any(line["fit"] == report.PICTURED for line in lines):
            report.picture(lines).savefig(folder / "fits_rates.png", dpi=120, metadata={"Software": None})


def _run(path: pathlib.Path, names: Sequence[str], gradients: int) -> None:
    """Adds the fits that are not there to the file."""
    if not path.is_file():
        path.write_text(json.dumps(machine.describe()) + "\n")
    finished = [json.loads(line).get("fit") for line in path.read_text().splitlines()]
    for name in (bar := tqdm([name for name in names if name not in finished], unit="fit")):
        bar.set_description(name)
        fit, pictured = load(name), name == report.PICTURED
        known, records = rows.measure(fit, [row for row in rows.ROWS if pictured or row != rows.WIDE], gradients)
        size = len(ravel_pytree(fit.init(jax.random.key(0)))[0])
        known |= {"fit": name, "row": f"{fit.title}, {size:,} ({fit.source})", "stochastic": fit.batch_at is not None}
        lines = [known | {"optimizer": optimizer, **record} for optimizer, record in records.items()]
        with path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
