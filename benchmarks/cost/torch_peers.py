"""The rows in PyTorch: AdamW and the implementations of AdaHessian, on the same model with as many threads."""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from benchmarks.cost.optimizers import DECAY, RATE, TORCH_ADAMW, Row
from benchmarks.machine import cores
from benchmarks.models import Problem

INTERVALS = {TORCH_ADAMW: (0,), "torch_optimizer.Adahessian": (1,), "pytorch_optimizer.AdaHessian": (1, 10)}


def rows(problem: Problem) -> dict[str, Callable[[], Row]]:
    """Every row whose package is installed; a row is made when it is called."""
    return {
        f"{name}, interval {k}" if k else name: functools.partial(_row, problem, name, k)
        for name, intervals in INTERVALS.items()
        if importlib.util.find_spec(name.split(".")[0])
        for k in intervals
    }


def _row(problem: Problem, optimizer_class: str, interval: int) -> Row:
    torch.set_num_threads(cores())
    params, batch = jax.tree.map(_tensor, (problem.params, problem.batch))
    loss_fn = functools.partial(problem.loss_fn, xp=TORCH)
    loss, expected = loss_fn(params, batch).item(), float(problem.loss_fn(problem.params, problem.batch))
    if abs(loss - expected) > 1e-4 * abs(expected):
        raise RuntimeError(f"The model in PyTorch has the loss {loss}, the one in JAX {expected}: they must agree.")
    module, name = optimizer_class.rsplit(".", 1)
    options = {"lr": RATE, "weight_decay": DECAY} | ({"update_period": interval} if interval > 1 else {})
    leaves = [leaf.requires_grad_() for leaf in jax.tree.leaves(params)]
    optimizer = getattr(importlib.import_module(module), name)(leaves, **options)
    t = 0

    def train(steps: int) -> None:
        nonlocal t
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
            for _ in range(steps):
                loss_fn(params, batch).backward(create_graph=interval > 0 and t % interval == 0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)  # breaks the cycle that create_graph makes
                t += 1

    train(1)  # makes the state
    state = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    return Row(train, max(1, interval), {"state_bytes": sum(x.numel() * x.element_size() for x in state)})


def _tensor(array: jax.Array) -> Any:
    """Kernels HWIO become OIHW, images NHWC become NCHW, dense kernels stay (in, out)."""
    array = np.array(array, np.int64 if array.dtype.kind == "i" else np.float32)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1) if array.shape[0] == array.shape[1] else array.transpose(0, 3, 1, 2)
    return torch.tensor(np.ascontiguousarray(array))


def _convolve(x: Any, kernel: Any, stride: int = 1) -> Any:
    # As many zeros around the image as JAX's "SAME" puts there, the odd one below and to the right.
    low, odd = divmod(max(kernel.shape[-1] - stride, 0), 2)
    return functional.conv2d(functional.pad(x, (0, odd, 0, odd)) if odd else x, kernel, stride=stride, padding=low)


TORCH = SimpleNamespace(  # the counterpart of `benchmarks.models.JAX`
    tanh=torch.tanh,
    relu=functional.relu,
    gelu=lambda x: functional.gelu(x, approximate="tanh"),
    softmax=lambda x: torch.softmax(x, -1),
    rsqrt=torch.rsqrt,
    einsum=torch.einsum,
    where=torch.where,
    lower_triangle=lambda n: torch.ones(n, n, dtype=torch.bool).tril(),
    convolve=_convolve,
    batch_norm=lambda x, n: functional.batch_norm(x, None, None, n["scale"], n["bias"], training=True, eps=1e-5),
    mean_image=lambda x: x.mean((2, 3)),
    cross_entropy=lambda x, labels: functional.cross_entropy(x.reshape(-1, x.shape[-1]), labels.flatten()),
)
