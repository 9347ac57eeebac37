"""The models of `benchmarks.models` and `benchmarks.resnet` in PyTorch, from the same parameters and the same batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional


def tensors(tree: Any, device: Any) -> Any:
    """A tree of arrays as tensors: kernels HWIO become OIHW, images NHWC become NCHW, dense kernels stay (in, out)."""
    if isinstance(tree, dict):
        return {name: tensors(child, device) for name, child in tree.items()}
    if isinstance(tree, tuple):
        return tuple(tensors(child, device) for child in tree)
    array = np.asarray(tree)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1) if array.shape[0] == array.shape[1] else array.transpose(0, 3, 1, 2)
    return torch.tensor(np.array(array, np.int64 if array.dtype.kind == "i" else array.dtype), device=device)


def leaves(tree: Any) -> list[torch.Tensor]:
    """The tensors of a tree of dicts."""
    return [leaf for child in tree.values() for leaf in leaves(child)] if isinstance(tree, dict) else [tree]


def mlp(params: Any, batch: Any) -> torch.Tensor:
    """Twin of `benchmarks.models.mlp`."""
    x, labels = batch
    for i in range(3):
        x = x @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"]
        x = torch.tanh(x) if i < 2 else x
    return functional.cross_entropy(x, labels)


def _convolve(x: torch.Tensor, kernel: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """As many zeros around the image as JAX's "SAME" puts there, the odd one below and to the right."""
    total = max(kernel.shape[-1] - (stride if x.shape[-1] % stride == 0 else x.shape[-1] % stride), 0)
    if total % 2 == 0:
        return functional.conv2d(x, kernel, stride=stride, padding=total // 2)
    low, high = total // 2, total - total // 2
    return functional.conv2d(functional.pad(x, (low, high, low, high)), kernel, stride=stride)


def _batch_norm(x: torch.Tensor, norm: Any) -> torch.Tensor:
    return functional.batch_norm(x, None, None, norm["scale"], norm["bias"], training=True, eps=1e-5)


def _block(params: Any, x: torch.Tensor, stride: int) -> torch.Tensor:
    count = sum(name.startswith("conv") for name in params)
    out = x
    for i in range(count):
        strided = i == count // 2 if count == 3 else i == 0
        out = _batch_norm(_convolve(out, params[f"conv_{i}"]["kernel"], stride if strided else 1), params[f"norm_{i}"])
        out = functional.relu(out) if i < count - 1 else out
    shortcut = _convolve(x, params["shortcut"]["kernel"], stride) if "shortcut" in params else x
    return functional.relu(out + shortcut)


def resnet(params: Any, batch: Any) -> torch.Tensor:
    """Twin of `benchmarks.resnet.resnet`."""
    x, labels = batch
    large = params["stem"]["kernel"].shape[-1] == 7
    x = functional.relu(_batch_norm(_convolve(x, params["stem"]["kernel"], 2 if large else 1), params["stem_norm"]))
    if large:
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-math.inf), 3, 2)
    for name in sorted(name for name in params if name.startswith("block")):
        stage, i = map(int, name.split("_")[1:])
        x = _block(params[name], x, 2 if stage > 0 and i == 0 else 1)
    return functional.cross_entropy(x.mean((2, 3)) @ params["dense"]["kernel"] + params["dense"]["bias"], labels)


def _normalize(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def _attention(block: Any, x: torch.Tensor, heads: int) -> torch.Tensor:
    batch, length, width = x.shape
    q, k, v = (x @ block["qkv"]["kernel"]).reshape(batch, length, 3, heads, width // heads).unbind(2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width // heads)
    causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    weights = torch.softmax(torch.where(causal, scores, -1e9), -1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ block["out"]["kernel"]


def transformer(params: Any, batch: torch.Tensor) -> torch.Tensor:
    """Twin of `benchmarks.models.transformer`, with 2 heads, or heads of width 64 where the output is tied."""
    heads = 2 if "output" in params else params["embedding"].shape[1] // 64
    x = params["embedding"][batch[:, :-1]] + params["pos_embedding"]
    for i in range(sum(name.startswith("block") for name in params)):
        block = params[f"block_{i}"]
        x = x + _attention(block, _normalize(x), heads)
        hidden = functional.gelu(_normalize(x) * block["norm"]["scale"] @ block["up"]["kernel"], approximate="tanh")
        x = x + hidden @ block["down"]["kernel"]
    output = params["output"]["kernel"] if "output" in params else params["embedding"].T
    return functional.cross_entropy((_normalize(x) @ output).flatten(0, 1), batch[:, 1:].flatten())


TWINS = {
    "mlp": mlp,
    "tiny": mlp,
    "resnet20": resnet,
    "resnet50": resnet,
    "transformer": transformer,
    "transformer_124m": transformer,
}
