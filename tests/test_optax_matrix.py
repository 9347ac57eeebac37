"""Every combination with optax does what the tables of docs/compatibility.md say."""

import jax
import optax
import pytest
from optax_matrix.harness import NO_CELL, TRIED, WAYS
from optax_matrix.page import GROUPS, PAGE, renewed

CELLS = [
    pytest.param(way, row, id=f"{group.title}-{row.combination}-{way}")
    for group in GROUPS
    for row in group.rows
    for way in WAYS
    if getattr(row, way) is not NO_CELL
]


@pytest.mark.parametrize(("way", "row"), CELLS)
def test_cell(way, row):
    outcome = getattr(row, way)
    with jax.enable_x64(True):
        if outcome.error is None:
            row.check(way)
        elif "impossible" in outcome.word and optax.__version__ != TRIED["optax"] and is_possible(row, way):
            pytest.skip(f"possible with optax {optax.__version__}: let the table say so")
        else:
            with pytest.raises((TypeError, ValueError), match=outcome.error):
                row.check(way)


def is_possible(row, way):
    """Whether another version of optax than the one that was tried passes our arguments on."""
    try:
        row.check(way)
    except TypeError:
        return False
    return True


def test_the_page_has_the_tables_of_this_matrix():
    text = PAGE.read_text()
    assert text == renewed(text), "write them anew: python -m tests.optax_matrix"
