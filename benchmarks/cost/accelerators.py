"""What the compilers of a TPU v5e and of an H100 make of a step: nothing runs, and nothing is timed."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks import topologies
from benchmarks.cost import optimizers, steps
from benchmarks.cost.optimizers import ADAMW, CLIPPED, EQUILIBRATED, MOMENTUM, PLAIN
from benchmarks.programs import compile_program, cycles, kernels
from benchmarks.report import Line, Target, find, markdown, number, over
from benchmarks.timing import Plan

DEVICES = ("v5e", "H100")
SIGNS, ESTIMATING, RECOMMENDED = "signs of 104 leaves", "ours, with an estimate", MOMENTUM + "no estimate"
LIMITED = (ADAMW, CLIPPED, PLAIN, ESTIMATING, RECOMMENDED)  # the rows that have a limit
# Not met: XLA makes two kernels of the momentum's three sums over a large leaf, where the clip has one of one sum.
MISSED = "H100, recommended, no estimate: over AdamW after a clip"
ROWS = {  # of the table, and of `optimizers.methods`
    ADAMW: ADAMW,
    CLIPPED: CLIPPED,
    PLAIN: PLAIN,
    ESTIMATING: "ours, interval 1",
    RECOMMENDED: RECOMMENDED,
    MOMENTUM + "with an estimate": MOMENTUM + "interval 1",
    EQUILIBRATED + ", with an estimate": EQUILIBRATED,
    "ours, obj_fn, interval 1": "ours, obj_fn, interval 1",
    "ours, obj_fn, interval 10": "ours, obj_fn, interval 10",
    "optax.contrib.sophia, interval 1": "optax.contrib.sophia, interval 1",
    "optax.contrib.sophia, interval 10": "optax.contrib.sophia, interval 10",
    "somax.adahessian, interval 1": "somax.adahessian, interval 1",
}
COLUMNS = {  # of the table, with unit and digits; XLA counts only the last for a GPU
    "cycles": ("thousand cycles", 1e3, 1),
    "flops": ("GFLOPs", 1e9, 2),
    "bytes_accessed": ("MB accessed", 1e6, 0),
    "kernels": ("kernels", 1, 0),
}


def many_leaves() -> list[jax.ShapeDtypeStruct]:
    """Eight leaves of 4 million entries and 96 of at most 65,536, as in a transformer."""
    small = [(256, 256), (256, 128), (128, 64), (64, 64), (1024,), *[(256,)] * 4, *[(64,)] * 3]
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(2048, 2048), *small] * 8]


def measure(
    names: Sequence[str], keep: Callable[[str], bool], plan: Plan, devices: Sequence[str] = DEVICES
) -> Iterator[Line]:
    """Each row of each model on each device whose compiler is installed."""
    del plan
    for device in filter(topologies.is_installed, devices):
        place = SingleDeviceSharding(topologies.devices(device)[0])
        key = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=place)  # a raw one
        if keep(SIGNS):
            args = key, topologies.placed(many_leaves(), place)
            yield {"model": "-", "device": device, "row": SIGNS, **costs(oah.rademacher_like, *args)}
        for name in names:
            problem = steps.MODELS[name]()
            methods = optimizers.methods(problem)
            kept = {row: methods[ROWS[row]] for row in ROWS if keep(row) and ROWS[row] in methods}
            for row, method in tqdm(kept.items(), desc=f"{device}, {name}: compiling", leave=False):
                shapes = problem.params, jax.eval_shape(method.init, problem.params), problem.batch
                params, state, batch = topologies.placed(shapes, place)
                line = {"model": name, "device": device, "row": row}
                with contextlib.suppress(NotImplementedError):  # an operation that is not for this platform
                    yield line | costs(method.step, params, state, key if method.keyed else None, batch, donate=(0, 1))


def costs(fun: Callable[..., Any], *args: Any, **options: Any) -> Line:
    """What the compiler of a device says about a program."""
    program = compile_program(fun, *args, **options)
    text = program.run.as_text()
    return {
        **program.costs,
        "kernels": kernels(text),
        "cycles": cycles(text),
        "conditionals": text.count(" conditional("),
        "compile_seconds": round(sum(program.seconds.values()), 1),
    }


def tables(lines: Sequence[Line]) -> str:
    """A table for each model and device, and one of the signs."""
    parts = []
    for model, device in dict.fromkeys((line["model"], line["device"]) for line in lines if line["row"] != SIGNS):
        rows = [line for line in lines if (line["model"], line["device"]) == (model, device)]
        counted = [cost for cost in COLUMNS if rows[0][cost] > 0]
        header = [f"{model} on {device} (over AdamW's)", *(COLUMNS[cost][0] for cost in counted)]
        header += ["temporary, MB", "compile, CPU s"]
        parts.append(markdown(header, [_cells(line, find(rows, row=ADAMW), counted) for line in rows]))
    signs = [line for line in lines if line["row"] == SIGNS]
    cells = [[f"{SIGNS}, {s['device']}", str(s["kernels"]), number(s["temp_bytes"] / 1e6)] for s in signs]
    return "\n".join([*parts, markdown(("", "kernels", "temporary, MB"), cells)])


def _cells(line: Line, adamw: Line, counted: Sequence[str]) -> list[str]:
    cells = [line["row"]]
    for cost in counted:
        _, unit, digits = COLUMNS[cost]
        cells.append(f"{number(line[cost] / unit, digits)} ({number(over(line[cost], adamw.get(cost)))})")
    return [*cells, number(line["temp_bytes"] / 1e6, 1), number(line["compile_seconds"], 1)]


def targets(lines: Sequence[Line]) -> list[Target]:
    """Of the MLP, and of the signs on the GPU."""

    def ratio(device: str, row: str, reference: str = ADAMW) -> float | None:
        cost = "cycles" if device == "v5e" else "kernels"
        mine, other = (find(lines, model="mlp", device=device, row=r).get(cost) for r in (row, reference))
        return over(mine, other)

    signs = find(lines, device="H100", row=SIGNS)
    return [
        Target("v5e, no estimate: cycles over AdamW's", ratio("v5e", PLAIN), 1.05),
        Target("v5e, recommended, no estimate: over AdamW after a clip", ratio("v5e", RECOMMENDED, CLIPPED), 1.05),
        Target("v5e, with an estimate: cycles over AdamW's", ratio("v5e", ESTIMATING), 4),
        Target("H100, no estimate: kernels over AdamW's", ratio("H100", PLAIN), 1.1),
        Target(MISSED, ratio("H100", RECOMMENDED, CLIPPED), 1.15),
        Target("H100, with an estimate: kernels over AdamW's", ratio("H100", ESTIMATING), 1.8),
        Target("H100, signs of 104 leaves: kernels", signs.get("kernels"), 16, 0),
        Target("H100, signs of 104 leaves: temporary MB", over(signs.get("temp_bytes"), 1e6), 1),
    ]
