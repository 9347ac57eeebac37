"""What a step of a decoder needs on each of 256 TPU chips, by the compiler of the TPU."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from benchmarks import topologies
from benchmarks.cost.optimizers import ADAMW, PLAIN, RATE, adahessian, train_step
from benchmarks.models import rms_norm
from benchmarks.programs import COLLECTIVES, Program, collectives, compile_program, cycles
from benchmarks.report import Line, Target, find, markdown, number, over
from benchmarks.timing import Plan

ESTIMATING, MAPPED = "ours, with an estimate", ", loss in shard_map"
ROWS = (ADAMW, PLAIN, ESTIMATING, ADAMW + MAPPED, ESTIMATING + MAPPED)
AXIS = "chips"
KEY_SHAPE = jax.ShapeDtypeStruct((2,), jnp.uint32)  # of a raw key


class Size(NamedTuple):
    """Of a decoder, and the slice that it is trained on."""

    shape: str  # of the slice
    layers: int
    width: int
    heads: int
    vocab: int
    batch: int
    length: int


SIZES = {
    "1.3e9": Size("16x16", 24, 2048, 16, 32768, 256, 1024),
    "7e9": Size("16x16", 32, 4096, 32, 32768, 256, 2048),
    "tiny": Size("2x2", 2, 256, 2, 512, 8, 128),  # for trying out the command
}


def decoder(size: Size, mesh: Mesh, mapped: bool) -> tuple[Callable[[Any, Any], jax.Array], Any, Any]:
    """The loss, and the shapes of parameters and tokens on the chips.

    The layers are scanned and made again in the backward pass. Parameters are float32 and split over all chips, and
    activations bfloat16. `mapped` gathers a layer in `jax.shard_map`; else XLA finds out what has to be communicated.
    """
    split = NamedSharding(mesh, P(AXIS))

    def whole(weight: jax.Array) -> jax.Array:
        half = weight.astype(jnp.bfloat16)
        return jax.lax.all_gather(half, AXIS, tiled=True) if mapped else half

    def placed(x: jax.Array) -> jax.Array:
        return x if mapped else jax.lax.with_sharding_constraint(x, split)

    @jax.checkpoint
    def block(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        layer = jax.tree.map(whole, layer)
        qkv = rms_norm(x, layer["norm_0"]) @ layer["qkv"]
        q, k, v = (qkv.reshape(*x.shape[:2], 3, size.heads, -1)[:, :, i] for i in range(3))
        x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ layer["out"]
        return placed(x + jax.nn.gelu(rms_norm(x, layer["norm_1"]) @ layer["up"]) @ layer["down"]), None

    def loss_fn(params: Any, tokens: Any) -> jax.Array:
        embedding = whole(params["embedding"])
        x, _ = jax.lax.scan(block, placed(embedding[tokens[:, :-1]]), params["layers"])
        logits = (rms_norm(x, whole(params["norm"])) @ embedding.T).astype(jnp.float32)
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]))
        return jax.lax.pmean(loss, AXIS) if mapped else loss

    def leaf(*shape: int, axis: int = 0, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*[None] * axis, AXIS)))

    width = size.width
    shapes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    shapes |= {"norm_0": (width,), "norm_1": (width,)}
    layers = {name: leaf(size.layers, *shape, axis=1) for name, shape in shapes.items()}
    params = {"embedding": leaf(size.vocab, width), "norm": leaf(width), "layers": layers}
    tokens = leaf(size.batch, size.length + 1, dtype=jnp.int32)
    if mapped:
        specs = jax.tree.map(lambda x: x.sharding.spec, (params, tokens))
        loss_fn = jax.shard_map(loss_fn, mesh=mesh, in_specs=specs, out_specs=P())
    return loss_fn, params, tokens


def measure(names: Sequence[str], keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """Minutes for each row."""
    del plan
    for name in names if topologies.is_installed("v5e") else ():
        mesh = Mesh(np.array(topologies.devices("v5e", SIZES[name].shape)), (AXIS,), axis_types=(AxisType.Auto,))
        for row in tqdm(list(filter(keep, ROWS)), desc=name, unit="program"):
            loss_fn, params, tokens = decoder(SIZES[name], mesh, mapped=row.endswith(MAPPED))
            program = _compile(loss_fn, params, tokens, row, NamedSharding(mesh, P()))
            text = program.run.as_text()
            yield {
                "model": name,
                "row": row,
                "parameters": optax.tree.size(params),
                "size": SIZES[name]._asdict(),
                "argument_bytes": int(program.run.memory_analysis().argument_size_in_bytes),
                **program.costs,
                "cycles": cycles(text),
                "compile_seconds": round(sum(program.seconds.values()), 1),
                "collectives": collectives(text, mesh.size),
            }


def _compile(loss_fn: Any, params: Any, tokens: Any, row: str, everywhere: NamedSharding) -> Program:
    tx = optax.adamw(RATE) if row.startswith(ADAMW) else adahessian()
    state = optax.tree.map_params(
        tx,
        lambda leaf, p: topologies.placed(leaf, p.sharding),
        jax.eval_shape(tx.init, params),
        params,
        transform_non_params=lambda leaf: topologies.placed(leaf, everywhere),
    )
    key = topologies.placed(KEY_SHAPE, everywhere) if row.startswith(ESTIMATING) else None
    step = train_step(loss_fn, tx, None if row.startswith(ADAMW) else "hessian_diag")
    results = (*jax.tree.map(lambda leaf: leaf.sharding, (params, state)), everywhere)
    return compile_program(step, params, state, key, tokens, donate=(0, 1), out_shardings=results)


def moved(line: Line) -> float | None:
    """The bytes of all collective operations, in bytes of the parameters in bfloat16."""
    return sum(size for _, size in line["collectives"].values()) / (2 * line["parameters"]) if line else None


def tables(lines: Sequence[Line]) -> str:
    """A table for each model."""
    header = ["on each chip", "arguments, GB", "temporary, GB", "FLOPs over AdamW's", "compile, CPU s"]
    header += [*COLLECTIVES, "all bytes, in bfloat16 parameters"]
    parts = []
    for name in dict.fromkeys(line["model"] for line in lines):
        mine = [line for line in lines if line["model"] == name]
        size = Size(**mine[0]["size"])
        parts.append(
            f"**{mine[0]['parameters'] / 1e9:.2f} billion parameters** over v5e:{size.shape}: {size.layers} layers of "
            f"width {size.width:,}, {size.batch} x {size.length:,} tokens.\n"
        )
        parts.append(markdown(header, [_cells(line, find(mine, row=ADAMW)) for line in mine]))
    return "\n".join(parts)


def _cells(line: Line, adamw: Line) -> list[str]:
    kinds = [line["collectives"][kind] for kind in COLLECTIVES]
    return [
        line["row"],
        number(line["argument_bytes"] / 1e9),
        number(line["temp_bytes"] / 1e9),
        number(over(line["flops"], adamw.get("flops"))),
        number(line["compile_seconds"], 0),
        *(f"{count:,} ({size / 1e9:.1f} GB)" if count else "-" for count, size in kinds),
        number(moved(line)),
    ]


def targets(lines: Sequence[Line]) -> list[Target]:
    """Without an estimate the step of AdamW."""
    found = []
    for name in dict.fromkeys(line["model"] for line in lines):
        adamw, plain = (find(lines, model=name, row=row) for row in (ADAMW, PLAIN))
        for cost in ("temp_bytes", "flops"):
            found.append(
                Target(f"{name}, no estimate: {cost} over AdamW's", over(plain.get(cost), adamw.get(cost)), 1.05)
            )
        found.append(Target(f"{name}, no estimate: bytes moved over AdamW's", over(moved(plain), moved(adamw)), 1.01))
    return found
