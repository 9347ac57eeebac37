"""The command line: `optax-adahessian path` and `optax-adahessian estimate`."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from optax_adahessian import __version__
from optax_adahessian._cli_arguments import Window, integer, number, optimizers, picture
from optax_adahessian.analysis import DEFAULT_RATES, SURFACES
from optax_adahessian.analysis.estimate_command import run_estimate
from optax_adahessian.analysis.path_command import run_path

_FUNCTION = f"""
A FUNCTION is one of {", ".join(SURFACES)},
or an expression of x and y: numbers, + - * / ** ^ ( ), pi, e, and
abs acos asin atan cos cosh exp log sin sinh sqrt tan tanh.
An expression that begins with a minus goes into parentheses: "(-x + y**2)".
"""
_PATH_EXAMPLES = """
examples:
  one step of Newton's size goes to the minimum where the Hessian is diagonal
    optax-adahessian path quadratic --b1 0 --b2 0 --learning-rate 1
  and not where it is not
    optax-adahessian path "x**2 + 5*y**2 + x*y" --b1 0 --b2 0 --learning-rate 0.5
  momentum for gradient and Hessian averages the noise out; beside others, as a picture
    optax-adahessian path noisy-bowl --b1 0.9 --b2 0.9 --learning-rate 1 --steps 30 \\
      --against adam,sgd:0.02,newton --save path.png
"""
_ESTIMATE_EXAMPLES = """
examples:
  a network's Hessian, whose rows have much off the diagonal
    optax-adahessian estimate --save estimate.png
  a diagonal Hessian: every estimate is exact
    optax-adahessian estimate quadratic
  another point, more probes, for another program
    optax-adahessian estimate "x**2 * y + sin(x*y)" --at 1 2 --max-probes 1024 --json
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; wrong input ends with a message on stderr and exit status 2."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        with jax.enable_x64(True):
            print(options.run(options))
    except (OSError, TypeError, ValueError) as error:
        parser.exit(2, f"optax-adahessian {options.command}: error: {error}\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of both commands; what it returns has the function to run in `run`."""
    parser = argparse.ArgumentParser(
        prog="optax-adahessian",
        description="Look at AdaHessian: its path over a function, its estimate of the Hessian. Computes in float64.",
        epilog="examples: optax-adahessian path --help, optax-adahessian estimate --help",
    )
    parser.add_argument("--version", action="version", version=f"optax-adahessian {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_path(commands)
    _add_estimate(commands)
    return parser


def _add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], str], summary: str, examples: str
) -> argparse.ArgumentParser:
    """A command with what all commands have in common."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n{_FUNCTION}",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--seed", type=integer(0, 2**31 - 1), default=0, metavar="N", help="of the probes; default 0")
    command.add_argument("--save", type=picture, metavar="FILE", help="write a picture: .png, .svg or .pdf")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    return command


def _add_path(commands: Any) -> None:
    path = _add_command(commands, "path", run_path, "the path of AdaHessian over a function of x and y", _PATH_EXAMPLES)
    add = path.add_argument
    add("function", nargs="?", default="quadratic", metavar="FUNCTION", help="default quadratic")
    add("--start", nargs=2, type=number, metavar=("X", "Y"), help="first point; default 1 1, or the surface's own")
    add("--steps", type=integer(1, 100_000), default=10, metavar="N", help="number of iterations; default 10")
    add("--learning-rate", type=number, default=0.15, metavar="RATE", help="default 0.15; 1 is Newton's step")
    add("--b1", type=number, default=0.9, metavar="BETA", help="momentum of the gradient; default 0.9")
    add("--b2", type=number, default=0.999, metavar="BETA", help="momentum of the Hessian; default 0.999")
    add("--eps", type=number, default=1e-8, metavar="EPS", help="added to the curvature; default 1e-8")
    add(
        "--hessian-power",
        type=number,
        default=1.0,
        metavar="K",
        help="from 1, Newton's direction, to 0, the gradient's",
    )
    probes = path.add_mutually_exclusive_group()
    probes.add_argument(
        "--probes", type=integer(1, 1000), default=1, metavar="N", help="random vectors for each estimate; default 1"
    )
    probes.add_argument(
        "--probes-from",
        type=pathlib.Path,
        metavar="FILE",
        help="repeat a recorded run: a .npy array of signs of shape (steps, probes, 2), instead of drawn ones",
    )
    add(
        "--against",
        type=optimizers,
        default={},
        metavar="NAME[:RATE],...",
        help="optimizers to compare, with their learning rates; names and default rates: "
        + ", ".join(f"{name}:{rate:g}" for name, rate in DEFAULT_RATES.items()),
    )
    add("--window", nargs=4, type=number, action=Window, metavar=("LEFT", "RIGHT", "BOTTOM", "TOP"), help="to draw")


def _add_estimate(commands: Any) -> None:
    summary = "Hutchinson's estimate of the Hessian's diagonal beside the exact one"
    estimate = _add_command(commands, "estimate", run_estimate, summary, _ESTIMATE_EXAMPLES)
    add = estimate.add_argument
    add("function", nargs="?", default="network", metavar="FUNCTION", help='or "network", a small one; the default')
    add("--at", nargs=2, type=number, metavar=("X", "Y"), help="the point; default 1 1, or the surface's own start")
    add("--max-probes", type=integer(1, 1024), default=256, metavar="N", help="most probes of a mean; default 256")
    add("--repetitions", type=integer(1, 1000), default=200, metavar="N", help="means that give an error; default 200")
