"""All rows of a model, those of packages that are not installed left out with a line that says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import jax

from benchmarks.cost import jax_rows
from benchmarks.cost.rows import Row, Rows
from benchmarks.models import Problem

TORCH_PACKAGES = {"torch_optimizer": "torch-optimizer", "pytorch_optimizer": "pytorch_optimizer"}


def rows_of(problem: Problem, model: str, say: Callable[[str], None]) -> dict[str, Rows]:
    """The rows of each framework by the name of its AdamW; `say` gets a line for each peer that is skipped."""
    first_order = jax_rows.first_order_rows(problem)
    adamw = first_order[jax_rows.ADAMW] = _once(first_order[jax_rows.ADAMW])
    flops = adamw().flops or 0.0
    rows = {**first_order, **jax_rows.our_rows(problem, flops), **jax_rows.sophia_rows(problem, flops)}
    if installed("somax", "python-somax", say):
        rows |= jax_rows.somax_rows(problem, flops)
    return {jax_rows.ADAMW: rows, **torch_rows_of(problem, model, say)}


def torch_rows_of(problem: Problem, model: str, say: Callable[[str], None]) -> dict[str, Rows]:
    """The rows in PyTorch by the name of its AdamW, or none."""
    if not installed("torch", "torch", say):
        for module, package in TORCH_PACKAGES.items():
            say(_skipped(module, package))
        return {}
    import torch

    from benchmarks.cost import torch_rows

    if jax.default_backend() != "cpu" and not torch.cuda.is_available():
        say("skipped: all rows in PyTorch, which sees no accelerator here while JAX does")
        return {}
    rows = torch_rows.adamw_rows(problem, model)
    if installed("torch_optimizer", TORCH_PACKAGES["torch_optimizer"], say):
        rows |= torch_rows.torch_optimizer_rows(problem, model)
    if installed("pytorch_optimizer", TORCH_PACKAGES["pytorch_optimizer"], say):
        rows |= torch_rows.pytorch_optimizer_rows(problem, model)
    return {torch_rows.ADAMW: rows}


def _once(make: Callable[[], Row]) -> Callable[[], Row]:
    row = make()
    return lambda: row


def installed(module: str, package: str, say: Callable[[str], None]) -> bool:
    """Whether a module can be imported; if not, `say` gets a line."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        say(_skipped(module, package))
    return found


def _skipped(module: str, package: str) -> str:
    return f"skipped: all rows of {module}, since {package} is not installed (pip install -e '.[bench]')"
