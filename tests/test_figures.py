"""The documentation's figures: each can be drawn with labels that can be read, and shows what its text says."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from docs.figures import paths
from docs.figures.__main__ import FIGURES
from optax_adahessian.analysis.palette import COLORS

DOCS = pathlib.Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_shown_and_has_labels_that_a_phone_can_show(name: str) -> None:
    with jax.enable_x64(True):
        figure = FIGURES[name]()
    assert (DOCS / "images" / name).is_file()
    assert any(f"images/{name}" in page.read_text() for page in DOCS.glob("*.md"))
    # A point is 1/72 inch, and a phone shows the figure's width on 390 pixels.
    sizes = [text.get_fontsize() / 72 / figure.get_figwidth() * 390 for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 9


def test_figures_show_what_their_text_says() -> None:
    descent, ours = (np.asarray(path.losses) for path in paths.three_paths().values())
    # A rate of 1/6 shrinks both coordinates by 2/3 a step: from 6 to 6 (2/3)^6.
    np.testing.assert_allclose(descent, 6 * (2 / 3) ** (2 * np.arange(4)), rtol=1e-5)
    assert ours[-1] < 1e-12 < descent[-1]
    without, averaged = (path.losses[-1] for path in paths.bowl_paths().values())
    assert averaged < without


def test_colors_differ_in_lightness_or_blueness_for_colour_blind_readers() -> None:
    """Red and green merge for most of them; what is left is lightness and the axis from blue to yellow."""

    def seen(color: str) -> np.ndarray:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
        yellow = 0.29 * red + 0.71 * green  # protanopes and deuteranopes see one mixture of the two
        return np.array([yellow, blue]) ** (1 / 2.4)

    for i, first in enumerate(COLORS):
        for second in COLORS[i + 1 :]:
            assert np.linalg.norm(seen(first) - seen(second)) > 0.1, (first, second)
