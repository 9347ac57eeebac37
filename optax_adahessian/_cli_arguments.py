"""What the command line accepts as a number, a picture, a list of optimizers, a window."""

from __future__ import annotations

import argparse
import importlib.util
import math
import pathlib
from collections.abc import Callable
from typing import Any

from optax_adahessian.analysis import DEFAULT_RATES


def number(text: str) -> float:
    """Reads a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} must be a finite number")
    return value


def integer(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from `low` to `high`."""

    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} must lie between {low} and {high}")
        return value

    return integer


def picture(text: str) -> pathlib.Path:
    """Reads the name of a picture that can be written."""
    file = pathlib.Path(text)
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {str(file.parent)!r} does not exist")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("pictures need matplotlib: pip install 'optax-adahessian[plot]'")
    return file


def optimizers(text: str) -> dict[str, float]:
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


class Window(argparse.Action):
    """Four numbers in order, kept as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        left, right, bottom, top = values
        if not (left < right and bottom < top):
            raise argparse.ArgumentError(self, "LEFT must be less than RIGHT, and BOTTOM less than TOP")
        setattr(namespace, self.dest, (left, right, bottom, top))
