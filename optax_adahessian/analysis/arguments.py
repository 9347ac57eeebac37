"""What the command line accepts."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from optax_adahessian import __version__
from optax_adahessian.analysis.surfaces import ALLOWED, SURFACES, ExpressionError, Surface, as_surface, parse_expression

DEFAULT_RATES = {"adam": 0.1, "momentum": 0.01, "newton": 1.0, "rmsprop": 0.05, "sgd": 0.01, "sophia": 0.1}
"""Learning rates that make progress on most functions of size one; they are not tuned."""

_FUNCTION = f"""
A FUNCTION is one of {", ".join(SURFACES)}, or an expression of x and y.
{ALLOWED}
"""
_PATH_EXAMPLES = """
examples:
  where the Hessian is diagonal, one step of Newton's size reaches the minimum
    optax-adahessian path quadratic --b1 0 --b2 0 --eps 0 --learning-rate 1
  and elsewhere it does not
    optax-adahessian path "x**2 + 5*y**2 + x*y" --b1 0 --b2 0 --eps 0 --learning-rate 1
  averages of gradient and curvature smooth the ripples; beside others, as a picture
    optax-adahessian path noisy-bowl --b2 0.9 --learning-rate 1 --steps 30 \\
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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of one command; wrong ones end the program with a message and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="optax-adahessian",
        description="Look at AdaHessian: its path over a function, its estimate of the Hessian. Computes in float64.",
        epilog="examples: optax-adahessian path --help, optax-adahessian estimate --help",
    )
    parser.add_argument("--version", action="version", version=f"optax-adahessian {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_path(commands)
    _add_estimate(commands)
    return parser.parse_args([_protected(argument) for argument in argv])


def _add_path(commands: Any) -> None:
    add = _add_command(commands, "path", "the path of AdaHessian over a function of x and y", _PATH_EXAMPLES)
    add("function", nargs="?", type=_surface, default="quadratic", metavar="FUNCTION", help="default quadratic")
    add("--start", nargs=2, type=number, metavar=("X", "Y"), help="first point; default 1 1, or the surface's own")
    add("--steps", type=_integer(1, 100_000), default=10, metavar="N", help="number of iterations; default 10")
    add("--learning-rate", type=number, default=0.15, metavar="RATE", help="default 0.15; 1 is Newton's step")
    add("--b1", type=number, default=0.9, metavar="BETA", help="decay of the mean gradient; default 0.9")
    add("--b2", type=number, default=0.999, metavar="BETA", help="decay of the mean squared curvature; default 0.999")
    add("--eps", type=number, default=1e-4, metavar="EPS", help="added to the denominator; default 1e-4")
    power = "from 1, Newton's direction, to 0, the gradient's; default 1"
    add("--hessian-power", type=number, default=1.0, metavar="K", help=power)
    add("--probes", type=_integer(1, 1000), default=1, metavar="N", help="random vectors for each estimate; default 1")
    recorded = "repeat a recorded run: a .npy array of signs of shape (steps, probes, 2)"
    add("--probes-from", type=pathlib.Path, metavar="FILE", help=recorded)
    names = ", ".join(f"{name}:{rate:g}" for name, rate in DEFAULT_RATES.items())
    others = f"optimizers to compare, with their learning rates; names and default rates: {names}"
    add("--against", type=_optimizers, default={}, metavar="NAME[:RATE],...", help=others)
    add("--window", nargs=4, type=number, metavar=("LEFT", "RIGHT", "BOTTOM", "TOP"), help="what to draw")


def _add_estimate(commands: Any) -> None:
    summary = "Hutchinson's estimate of the Hessian's diagonal beside the exact one"
    add = _add_command(commands, "estimate", summary, _ESTIMATE_EXAMPLES)
    add("function", nargs="?", type=_subject, default="network", metavar="FUNCTION", help='or "network", the default')
    add("--at", nargs=2, type=number, metavar=("X", "Y"), help="the point; default 1 1, or the surface's own start")
    add("--max-probes", type=_integer(1, 1024), default=256, metavar="N", help="most probes of a mean; default 256")
    add("--repetitions", type=_integer(1, 1000), default=200, metavar="N", help="means that give an error; default 200")


def _add_command(commands: Any, name: str, summary: str, examples: str) -> Callable[..., Any]:
    """Adds a command with the options that all commands have; returns the function that adds its own."""
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n{_FUNCTION}",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Callable[..., Any] = command.add_argument
    add("--seed", type=_integer(0, 2**31 - 1), default=0, metavar="N", help="of the probes; default 0")
    add("--save", type=_picture, metavar="FILE", help="write a picture: .png, .svg or .pdf")
    add("--json", action="store_true", help="print everything as JSON instead of a table")
    return add


def _protected(argument: str) -> str:
    """A number or an expression behind a space, if it begins with a minus: argparse would take it for an option."""
    if argument.startswith("-"):
        for read in (float, parse_expression):
            with contextlib.suppress(ValueError):
                read(argument)
                return f" {argument}"
    return argument


def _surface(text: str) -> Surface:
    try:
        return as_surface(text)
    except ExpressionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _subject(text: str) -> Surface | str:
    return text if text == "network" else _surface(text)


def number(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{value} must be a finite number")
    return value


def _integer(low: int, high: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} must be an integer from {low} to {high}")
        return value

    return integer


def _picture(text: str) -> pathlib.Path:
    """The name of a picture that can be written."""
    file = pathlib.Path(text)
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {str(file.parent)!r} does not exist")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("pictures need matplotlib: pip install 'optax-adahessian[plot]'")
    return file


def _optimizers(text: str) -> dict[str, float]:
    """Learning rates by name, from "adam,sgd:0.05"."""
    rates: dict[str, float] = {}
    for item in text.split(","):
        name, colon, rate = item.strip().partition(":")
        if name not in DEFAULT_RATES:
            raise argparse.ArgumentTypeError(f"{name!r} is not known; choose from {', '.join(DEFAULT_RATES)}")
        try:
            rates[name] = number(rate) if colon else DEFAULT_RATES[name]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"the learning rate {rate!r} of {name} must be a number") from error
    return rates
