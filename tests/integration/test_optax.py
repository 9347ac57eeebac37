"""At home in optax: its names, and every combination does what the tables of docs/compatibility.md say."""

import inspect

import jax
import optax
import pytest

import optax_adahessian as oah
from tests.integration.optax_matrix.harness import NO_CELL, WAYS
from tests.integration.optax_matrix.page import GROUPS, PAGE, renewed


def test_hyperparameters_are_named_and_passed_as_those_of_adamw():
    ours, theirs = (inspect.signature(f).parameters for f in (oah.adahessian, optax.adamw))
    shared = [name for name in ours if name in theirs]
    assert shared == ["learning_rate", "b1", "b2", "eps", "weight_decay", "mask", "mu_dtype"]
    assert list(ours)[:4] == list(theirs)[:4]
    # `mu_dtype` is no hyper-parameter, and is passed by keyword alone like the other options.
    assert [name for name in shared if ours[name].kind != theirs[name].kind] == ["mu_dtype"]
    keyword_only = {name for name in ours if ours[name].kind == inspect.Parameter.KEYWORD_ONLY}
    assert keyword_only == set(ours) - {*shared, "hessian_power"} | {"mu_dtype"}


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
        else:  # where another version of Optax takes it, the table has to say so
            with pytest.raises((TypeError, ValueError), match=outcome.error):
                row.check(way)


def test_the_page_has_the_tables_of_this_matrix():
    text = PAGE.read_text()
    assert text == renewed(text), "write them anew: python -m tests.integration.optax_matrix"
