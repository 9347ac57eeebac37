"""What the interval buys in the end, and the demo."""

import numpy as np
import pytest

from benchmarks.quality.optimizers import OPTIMIZERS, OURS
from benchmarks.quality.tasks import mlp
from benchmarks.quality.training import Trainer
from examples import digits_cnn


@pytest.mark.long
def test_interval_10_has_a_lower_test_loss_than_interval_1_at_equal_gradients():
    """An estimate takes two gradients more: 250 + 2 * (10 + 24) of them here, and 3 * 106."""
    trainer = Trainer(mlp.task(), OPTIMIZERS[OURS])

    def mean_loss(interval, steps):
        settings = trainer.optimizer.defaults | {"learning_rate": 0.15, "update_interval": interval}
        return np.mean([trainer.train(settings, seed, steps)["test"] for seed in range(3)])

    assert mean_loss(10, 250) < mean_loss(1, 106)


@pytest.mark.long
def test_the_demo_trains_both_optimizers_and_draws(tmp_path, capsys):
    picture = tmp_path / "curves.png"
    runs = digits_cnn.main(["--steps", "60", "--picture", str(picture)])
    assert picture.stat().st_size > 10_000
    for run in runs.values():
        assert run.losses[-10:].mean() < 0.5 * run.losses[:10].mean()
    assert "AdamW steps" in capsys.readouterr().out
