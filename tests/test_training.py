"""What the interval costs in the end: nothing, with the dense start."""

import numpy as np
import pytest

from benchmarks.quality.optimizers import OPTIMIZERS, OURS
from benchmarks.quality.tasks import mlp
from benchmarks.quality.training import Trainer
from examples import digits_cnn


@pytest.mark.long
def test_interval_10_reaches_the_test_loss_of_interval_1():
    task, optimizer = mlp.task(), OPTIMIZERS[OURS]
    trainer = Trainer(task, optimizer)

    def mean_loss(interval):
        settings = optimizer.defaults | {"learning_rate": 0.15, "update_interval": interval}
        return np.mean([trainer.train(settings, seed, task.steps)["test"] for seed in range(3)])

    assert mean_loss(10) <= 1.05 * mean_loss(1)


@pytest.mark.long
def test_the_demo_trains_both_optimizers_and_draws(tmp_path, capsys):
    picture = tmp_path / "curves.png"
    runs = digits_cnn.main(["--steps", "60", "--picture", str(picture)])
    assert picture.stat().st_size > 10_000
    for run in runs.values():
        assert run.losses[-10:].mean() < 0.5 * run.losses[:10].mean()
    assert "AdamW steps" in capsys.readouterr().out
