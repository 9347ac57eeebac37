"""The six tasks, each in a module of its own."""

from __future__ import annotations

from benchmarks.quality.task import Task
from benchmarks.quality.tasks import autoencoder, breast_cancer, conv_net, mlp, poisson, transformer

TASKS: dict[str, Task] = {
    "mlp": mlp.task(),
    "conv": conv_net.task(),
    "autoencoder": autoencoder.task(),
    "transformer": transformer.task(),
    "cancer": breast_cancer.task(),
    "poisson": poisson.task(),
}
