"""The benchmark of fits in natural units: its models, and what it reports of runs."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_wine

from benchmarks.fits import __main__ as fits
from benchmarks.fits import report, rows
from benchmarks.fits.models import FITS

FIXED = ("claims", "diabetes", "cancer", "wine", "peak", "theophylline", "schools", "enzyme", "exponentials")


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.long
@pytest.mark.parametrize("name", FIXED)
def test_the_start_is_the_same_in_all_coordinates(name):
    fit = FITS[name]()
    start = fit.init(np.random.default_rng(0))
    for to_natural in fit.to_natural.values():
        chex.assert_trees_all_close(to_natural(start), start, rtol=1e-12)
    batch = fit.batch_at(jax.random.key(0), fit.everything) if fit.batch_at else fit.everything
    assert np.isfinite(jax.jit(fit.loss_fn)(start, batch))


@pytest.mark.long
def test_regressions_in_other_coordinates_are_the_same_model():
    fit, measured = FITS["wine"](), load_wine().data
    (x, _), mean, sd = fit.everything, measured.mean(axis=0), measured.std(axis=0)
    slopes = jax.random.normal(jax.random.key(0), fit.init(None)["slopes"].shape)
    p = {"slopes": slopes, "intercept": jnp.array([1.0, -2.0])}
    for coordinates, features in {"by hand": (measured - mean) / sd, "not centred": measured}.items():
        natural = fit.to_natural[coordinates](p)
        predictions = features @ slopes + p["intercept"]
        np.testing.assert_allclose(x @ natural["slopes"] + natural["intercept"], predictions, rtol=1e-9, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("name", "squares"), [("enzyme", 1195.4488144), ("exponentials", 5.4648946975e-5)])
def test_levenberg_marquardt_finds_the_published_sum_of_squares(name, squares, monkeypatch):
    monkeypatch.setattr(rows, "ROWS", {rows.OURS: rows.ROWS[rows.OURS]})
    lines = {line["optimizer"]: line for line in rows.measure(FITS[name](), gradients=60)}
    assert 2 * lines["Levenberg-Marquardt"]["losses"][0][0] == pytest.approx(squares, rel=1e-6)
    assert 2 * lines[rows.OURS]["optimum"] == pytest.approx(squares, rel=1e-6)


@pytest.mark.long
def test_a_finished_fit_is_not_run_again(tmp_path):
    arguments = ["--fits", "enzyme", "--gradients", "60", "--out", str(tmp_path)]
    fits.main(arguments)
    record = (tmp_path / "fits_60.jsonl").read_text()
    lines = [json.loads(line) for line in record.splitlines()[1:]]
    assert {line["optimizer"] for line in lines} >= {rows.OURS, rows.ADAM, "L-BFGS", "Levenberg-Marquardt"}
    assert all(line["optimum"] == pytest.approx(1195.4488144 / 2, rel=1e-6) for line in lines)
    assert {line["gradients"] for line in lines if "gradients" in line} == {60}
    fits.main(arguments)
    assert (tmp_path / "fits_60.jsonl").read_text() == record


def test_a_table_has_fractions_of_the_starting_gap_and_counts_rates_that_do_as_well(tmp_path):
    where = {"cores": 2, "processor": "none", "devices": ["cpu"], "load": 0.0, "commit": "0", "versions": {"jax": "1"}}
    known = {"fit": "peak", "row": "Peak", "start": 3.0, "optimum": 1.0, "seconds": 0.5}
    losses = [[1.4, 1.6], [1.001, 1.001], [1.01, 1.01], [1.0, 7.0]]
    ours = {"optimizer": rows.OURS, "rates": [0.15, 0.5, 1.0, 2.0], "losses": losses}
    adam = {"optimizer": rows.ADAM, "rates": [1, 2, 3, 4, 5], "losses": [[1.009], [1.02], [1.1], [2.0], [None]]}
    file = tmp_path / "earlier.jsonl"
    wide = adam | {"optimizer": rows.WIDE}
    file.write_text("\n".join(json.dumps(line) for line in (where, *(known | row for row in (ours, adam, wide)))))
    fits.main(["--from", str(file), "--out", str(tmp_path)])
    table = (tmp_path / "fits.md").read_text()
    assert "| Peak | 0.25, **5.0e-4**, 0.005, fails | 0.0045 (1 of 5) |" in table
    assert (tmp_path / "fits_rates.png").is_file()
    assert report.fractions(known | adam)[4] == np.inf
    assert "ours: within 1e-3 at one of 0.5, 1 and 2 on 1 of 1 fits, at all three on 0." in table
