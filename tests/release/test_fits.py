"""The benchmark of fits in natural units: its models, and what it reports of runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_wine

from benchmarks.fits import __main__ as fits
from benchmarks.fits import report, rows
from benchmarks.fits.models import load

LINEAR = ("claims", "diabetes", "cancer", "wine")
OTHERS = ("peak", "theophylline", "enzyme", "exponentials", "pelts")


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.long
@pytest.mark.parametrize("name", [*LINEAR, *OTHERS])
def test_coordinates_made_by_hand_are_the_same_model(name):
    fit = load(name)
    natural = fit.init(jax.random.key(0))
    by_hand = fit.by_hand(fit.init_by_hand(jax.random.key(0)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), natural, by_hand)
    batch = fit.batch_at(jax.random.key(1)) if fit.batch_at else fit.everything
    assert np.isfinite(jax.jit(fit.loss_fn)(natural, batch))
    if name in LINEAR:  # slopes of one standard deviation are the same predictions from standardized features
        ones = {**fit.init_by_hand(None), "slopes": jnp.ones_like(natural["slopes"])}
        x = fit.everything[0]
        standardized = x / x.std(axis=0) @ ones["slopes"] + ones["intercept"]
        centred = fit.by_hand(ones)
        np.testing.assert_allclose(x @ centred["slopes"] + centred["intercept"], standardized, rtol=1e-9, atol=1e-9)


@pytest.mark.long
def test_features_as_they_were_measured_are_the_same_model():
    fit, x = load("wine"), load_wine().data
    slopes = jax.random.normal(jax.random.key(0), fit.init(None)["slopes"].shape)
    measured = {"slopes": slopes, "intercept": jnp.array([1.0, -2.0])}
    centred = fit.not_centred(measured)
    predictions = fit.everything[0] @ centred["slopes"] + centred["intercept"]
    np.testing.assert_allclose(predictions, x @ slopes + measured["intercept"], rtol=1e-9, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("name", "squares"), [("enzyme", 1195.4488144), ("exponentials", 5.4648946975e-5)])
def test_levenberg_marquardt_finds_the_published_sum_of_squares(name, squares):
    found = rows.Measurement(load(name)).solver(levenberg_marquardt=True)
    assert 2 * found["losses"][0][0] == pytest.approx(squares, rel=1e-6)


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
    ours = {"optimizer": rows.OURS, "rates": [0.15, 0.5, 1.0, 2.0], "losses": [[1.5], [1.001], [1.01], [1.0, 7.0]]}
    adam = {"optimizer": rows.ADAM, "rates": [1.0, 2.0, 3.0], "losses": [[1.009], [1.02], [1.0, None]]}
    file = tmp_path / "earlier.jsonl"
    wide = adam | {"optimizer": rows.WIDE}
    file.write_text("\n".join(json.dumps(line) for line in (where, *(known | row for row in (ours, adam, wide)))))
    fits.main(["--from", str(file), "--out", str(tmp_path)])
    table = (tmp_path / "fits.md").read_text()
    assert "| Peak | 0.2, **5e-4**, 0.005, fails | 0.004 (1 of 3) |" in table
    assert (tmp_path / "fits_rates.png").is_file()
    assert report.fractions(known | adam)[2] == np.inf
    assert "of 1 fits, not within 1e-3 at any of 0.5, 1, 2 | 0 | 2 | yes" in table
    assert "of 1 fits, not within 1e-3 at each of 0.5, 1, 2 | 1 | 3 | yes" in table
