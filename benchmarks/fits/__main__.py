"""Models whose parameters have units: one setting of AdaHessian next to others at their best rates.

Every run takes as many gradients, and an estimate counts two. Ours is, on all fits, oah.adahessian(rate, b2=0.95,
eps=0.0, equilibrate=True). Each finished fit is kept in --out: Ctrl-C ends, and the same command goes on.

examples:
  python -m benchmarks.fits                          20 minutes on two cores
  python -m benchmarks.fits --fits wine claims --gradients 6000
  python -m benchmarks.fits --from benchmarks/records/fits.jsonl --publish
"""

import json

import jax
from tqdm import tqdm

from benchmarks import command_line, machine
from benchmarks.fits import report, rows
from benchmarks.fits.models import FITS


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not there yet, or reads an earlier run; writes tables and a picture."""
    parser = command_line.parser("fits", __doc__)
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS), help="default: all")
    parser.add_argument("--gradients", type=int, default=rows.GRADIENTS, help="of a run (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.publish and options.gradients != rows.GRADIENTS:
        parser.error(f"The documentation has runs of {rows.GRADIENTS:,} gradients: leave out --gradients.")
    path = options.earlier or options.out / f"fits_{options.gradients}.jsonl"
    if not path.is_file() and not options.earlier:
        path.write_text(json.dumps(machine.describe()) + "\n")
    left = [name for name in options.fits if not options.earlier and f'"fit": "{name}"' not in path.read_text()]
    for name in tqdm(left, unit="fit", disable=not left):
        with jax.enable_x64(True):
            measured = rows.measure(FITS[name](), options.gradients)
        known = {"fit": name, "row": f"{FITS[name].__doc__}, {measured[0]['parameters']:,}"}
        with path.open("a") as file:
            file.write("".join(json.dumps(known | line) + "\n" for line in measured))
    where, *lines = map(json.loads, path.read_text().splitlines())
    pictures = {"fits_rates": report.picture(lines)} if report.PICTURED in {line["fit"] for line in lines} else {}
    command_line.write(options, "fits", path.read_text(), {"fits": report.tables(where, lines)}, pictures)


if __name__ == "__main__":
    main()
