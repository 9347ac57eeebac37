"""The documentation site builds, needs no network, and its formulas and figures show what they should."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from docs.figures import paths, units
from docs.figures.__main__ import FIGURES
from optax_adahessian.analysis import SURFACES

DOCS = Path(__file__).parents[2] / "docs"
LOADED = re.compile(r'<(?:script|img|source|link rel="(?:stylesheet|icon|preload)")\b[^>]*>')  # without a click


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, which builds without a warning: every link within it leads somewhere."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.long
def test_all_that_a_page_loads_is_in_the_site(site):
    pages = list(site.rglob("*.html"))
    assert {page.stem for page in DOCS.rglob("*.md")} <= {page.stem for page in pages}
    for page in pages:
        for tag in LOADED.findall(page.read_text()):
            target = re.search(r'(?:src|href)="([^"?]*)', tag)
            assert target is None or (page.parent / target[1]).is_file(), (page.name, tag)
            assert not tag.startswith("<img") or re.search(r'alt="[^"]', tag), (page.name, tag)


@pytest.mark.long
def test_formulas_are_rendered(site):
    for name in ("api", "how_it_works"):
        text = (site / f"{name}.html").read_text()
        assert text.count("<math ") > 5
        assert "\\frac" not in text
        assert "<mi>&</mi>" not in text, "an environment that the converter does not know"


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_and_is_shown(name):
    with jax.enable_x64(True):
        FIGURES[name]()
    assert (DOCS / "images" / name).is_file()
    assert any(f"images/{name}" in page.read_text() for page in DOCS.glob("*.md"))


def test_figures_show_what_their_text_says():
    descent, ours = (np.asarray(path.losses) for path in paths.three_paths().values())
    # A rate of 1/6 shrinks both coordinates by 2/3 a step: from 6 to 6 (2/3)^6.
    np.testing.assert_allclose(descent, 6 * (2 / 3) ** (2 * np.arange(4)), rtol=1e-5)
    assert ours[-1] < 1e-12 < descent[-1]
    without, averaged = (path.losses[-1] for path in paths.bowl_paths().values())
    assert averaged < without
    with jax.enable_x64(True):
        (adam, adam_in_thousandths), both = (
            [units.path(tx, u)[-1] for u in (1.0, 0.001)] for tx in units.OPTIMIZERS.values()
        )
    np.testing.assert_allclose(*both, atol=0.01)
    minima = np.array(SURFACES["himmelblau"].minima)
    assert np.min(np.abs(minima - both[0]).max(axis=1)) < 0.01 > np.min(np.abs(minima - adam).max(axis=1))
    assert np.min(np.abs(minima - adam_in_thousandths).max(axis=1)) > 0.5
