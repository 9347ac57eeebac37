"""Colours that colour-blind readers can tell apart, and the look that all pictures share."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design", 2008; without the yellow, which is too light for lines on white.
BLACK, BLUE, VERMILLION, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY_BLUE = "#CC79A7", "#E69F00", "#56B4E9"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, its size in inches, on an opaque white that reads in a dark page and in print."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def label(ax: Axes, x: str, y: str, title: str = "") -> None:
    """Labels both axes and hides the frame's upper and right sides."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
