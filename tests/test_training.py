"""What the interval costs in the end: nothing, with the dense start."""

import pytest

from benchmarks import digits_mlp
from examples import digits_cnn


@pytest.mark.long
def test_interval_10_reaches_the_test_loss_of_interval_1():
    means = [digits_mlp.final_losses(digits_mlp.adahessian(interval, dense_start=10)).mean() for interval in (1, 10)]
    assert means[1] <= 1.05 * means[0]


@pytest.mark.long
def test_the_demo_trains_both_optimizers_and_draws(tmp_path, capsys):
    picture = tmp_path / "curves.png"
    runs = digits_cnn.main(["--steps", "60", "--picture", str(picture)])
    assert picture.stat().st_size > 10_000
    for run in runs.values():
        assert run.losses[-10:].mean() < 0.5 * run.losses[:10].mean()
    assert "AdamW steps" in capsys.readouterr().out
