"""The models that costs are measured on, by the names of the command line."""

from __future__ import annotations

import jax

from benchmarks.models import conv_net, mlp, transformer
from benchmarks.resnet import resnet20, resnet50

SMALL = {
    "mlp": lambda: mlp(batch_size=256, width=512, features=784),
    "resnet20": lambda: resnet20(batch_size=16),
    "transformer": lambda: transformer(batch_size=16, length=64, width=128),
}
LARGE = {
    "resnet50": lambda: resnet50(batch_size=64),
    "transformer_124m": lambda: transformer(
        batch_size=8, length=512, width=768, layers=12, vocab=50257, heads=12, tied=True
    ),
}
PROBLEMS = {
    **SMALL,
    **LARGE,
    "conv_net": conv_net,
    "tiny": lambda: mlp(batch_size=4, width=8),  # for trying out a command
}


def default_names() -> list[str]:
    """The small models, and the large ones where there is an accelerator."""
    return [*SMALL, *(LARGE if jax.default_backend() != "cpu" else {})]
