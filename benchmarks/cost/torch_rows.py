"""The rows in PyTorch: AdamW and the implementations of AdaHessian, on the same model and as many threads."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import torch

from benchmarks.cost.rows import DECAY, RATE, Row, Rows
from benchmarks.cost.torch_models import TWINS, leaves, tensors
from benchmarks.machine import cores
from benchmarks.models import Problem

ADAMW = "torch.optim.AdamW"


def adamw_rows(problem: Problem, model: str) -> Rows:
    """What the other rows in PyTorch are compared with."""
    return {ADAMW: lambda: _row(problem, model, lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=DECAY), 0)}


def torch_optimizer_rows(problem: Problem, model: str) -> Rows:
    """Of the package torch-optimizer, by the authors of the method."""
    import torch_optimizer

    def make(params: Any) -> Any:
        return torch_optimizer.Adahessian(params, lr=RATE, weight_decay=DECAY, hessian_power=1.0)

    return {"torch_optimizer.Adahessian, interval 1": lambda: _row(problem, model, make, 1)}


def pytorch_optimizer_rows(problem: Problem, model: str) -> Rows:
    """Of the package pytorch_optimizer."""
    import pytorch_optimizer

    def row(interval: int) -> Row:
        def make(params: Any) -> Any:
            return pytorch_optimizer.AdaHessian(params, lr=RATE, weight_decay=DECAY, eps=1e-4, update_period=interval)

        return _row(problem, model, make, interval)

    return {f"pytorch_optimizer.AdaHessian, interval {k}": functools.partial(row, k) for k in (1, 10)}


def _row(problem: Problem, model: str, make: Any, interval: int) -> Row:
    """The loop of an optimizer; `interval` 0 is one of first order."""
    torch.set_num_threads(cores())
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    loss_fn, params, batch = TWINS[model], tensors(problem.params, device), tensors(problem.batch, device)
    _check_same_model(problem, loss_fn(params, batch).item())
    parameters = [leaf.requires_grad_() for leaf in leaves(params)]
    optimizer = make(parameters)
    t = 0

    def train(steps: int) -> None:
        nonlocal t
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
            for _ in range(steps):
                due = interval > 0 and t % interval == 0
                loss_fn(params, batch).backward(create_graph=due)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)  # breaks the cycle that create_graph makes
                t += 1
        if device == "cuda":
            torch.cuda.synchronize()

    train(1)  # makes the state
    states = [value for state in optimizer.state.values() for value in state.values()]
    state_bytes = sum(x.numel() * x.element_size() for x in states if isinstance(x, torch.Tensor))
    return Row(train, max(1, interval), state_bytes)


def _check_same_model(problem: Problem, loss: float) -> None:
    expected = float(problem.loss_fn(problem.params, problem.batch))
    if abs(loss - expected) > 1e-4 * abs(expected):
        raise RuntimeError(f"The model in PyTorch has the loss {loss}, the one in JAX {expected}: they must agree.")
