"""What a step communicates on eight devices, counted from the text of its program."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import optax_adahessian as oah
from benchmarks import models
from benchmarks.cost.optimizers import KEY, RATE, adahessian, train_step
from benchmarks.programs import COLLECTIVES, collectives, compile_program, tree_bytes
from benchmarks.report import Line, Target, markdown
from benchmarks.timing import Plan

AXIS = "data"


def net() -> models.Problem:
    """That of docs/distributed.md."""

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean((jnp.tanh(x @ params["hidden"]) @ params["output"] - y) ** 2)

    params = {"hidden": jnp.ones((16, 32)), "output": jnp.ones((32, 8))}
    return models.Problem(loss_fn, params, (jnp.ones((32, 16)), jnp.ones((32, 8))))


def measure(names: Sequence[str], keep: Callable[[str], bool], plan: Plan) -> Iterator[Line]:
    """Every way to spread a step over the devices."""
    del plan
    mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    for name in names:
        if name.startswith("signs"):
            params = [jnp.ones(tuple(map(int, name.split("_")[1].split("x"))))] * 3
            split = jax.tree.map(lambda p: _placed(p, mesh, P(AXIS)), params)
            programs = {"signs of sharded leaves": lambda split=split: _text(oah.rademacher_like, KEY, split, split)}
        else:
            problem = net() if name == "net" else models.transformer(batch_size=jax.device_count())
            params, programs = problem.params, step_texts(problem, mesh)
        for row in tqdm([row for row in programs if keep(row)], desc=name, leave=False):
            yield {"model": name, "row": row, "parameter_bytes": tree_bytes(params)} | collectives(
                programs[row](), mesh.size
            )


def step_texts(problem: models.Problem, mesh: Mesh) -> dict[str, Callable[[], str]]:
    """Functions that compile each way and return the text of its program."""
    loss, adamw = problem.loss_fn, optax.adamw(RATE)
    # Averages over rows: a block lies on several devices where parameters are sharded.
    ours = adahessian(spatial_average=oah.SpatialAverage.rows("HWIO"))
    inside = train_step(loss, ours, "hessian_diag", axis_name=AXIS)
    inside = jax.shard_map(inside, mesh=mesh, in_specs=(P(), P(), P(), P(AXIS)), out_specs=P())

    def mean_loss(spec: P) -> Callable[..., jax.Array]:
        def local(params: Any, batch: Any) -> jax.Array:
            gathered = jax.tree.map(lambda p: jax.lax.all_gather(p, AXIS, tiled=True), params) if spec else params
            return jax.lax.pmean(loss(gathered, batch), AXIS)

        return jax.shard_map(local, mesh=mesh, in_specs=(spec, P(AXIS)), out_specs=P())

    def text(tx: Any, step: Callable[..., Any], spec: P, key: Any) -> str:
        params = jax.tree.map(lambda p: _placed(p, mesh, spec), problem.params)
        state = optax.tree.map_params(
            tx,
            lambda leaf, p: _placed(leaf, mesh, spec if leaf.shape[:1] == p.shape[:1] else P()),
            jax.eval_shape(tx.init, params),
            params,
            transform_non_params=lambda leaf: _placed(leaf, mesh, P()),
        )
        batch = jax.tree.map(lambda x: _placed(x, mesh, P(AXIS)), problem.batch)
        return _text(step, params, state, key, batch, (params, state, _placed(jnp.zeros([]), mesh, P())))

    found = {
        "optax.adamw, plain jit": partial(text, adamw, train_step(loss, adamw), P(), None),
        "optax.adamw, fully sharded": partial(text, adamw, train_step(loss, adamw), P(AXIS), None),
        "plain jit, obj_fn": partial(text, ours, train_step(loss, ours, "obj_fn"), P(), None),
    }
    for name, step, spec in (
        ("axis_name in shard_map", inside, P()),
        ("loss in shard_map", train_step(mean_loss(P()), ours, "hessian_diag"), P()),
        ("plain jit", train_step(loss, ours, "hessian_diag"), P()),
        ("fully sharded, loss in shard_map", train_step(mean_loss(P(AXIS)), ours, "hessian_diag"), P(AXIS)),
        ("fully sharded, plain jit", train_step(loss, ours, "hessian_diag"), P(AXIS)),
    ):
        found[f"{name}, estimate"] = partial(text, ours, step, spec, KEY)
        found[f"{name}, no estimate"] = partial(text, ours, step, spec, None)
    return found


def _placed(leaf: Any, mesh: Mesh, spec: P) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))


def _text(fun: Callable[..., Any], *args_and_results: Any) -> str:
    *args, results = args_and_results
    return compile_program(fun, *args, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, results)).run.as_text()


def tables(lines: Sequence[Line]) -> str:
    """Operations of each kind, with their bytes in units of the parameters' bytes."""

    def cell(found: Sequence[int], size: int) -> str:
        return f"{found[0]} ({found[1] / size:.2f})" if found[0] else "-"

    names = [f"{line['model']}: {line['row']}" for line in lines]
    cells = [[cell(line[kind], line["parameter_bytes"]) for kind in COLLECTIVES] for line in lines]
    header = ["operations (bytes in units of the parameters)", *COLLECTIVES]
    return markdown(header, [[name, *row] for name, row in zip(names, cells, strict=True)])


def targets(lines: Sequence[Line]) -> list[Target]:
    """Signs need no communication, and no step permutes."""
    signs = [line for line in lines if line["model"].startswith("signs")]
    found = [
        Target(f"{line['model']}: collectives", sum(line[kind][0] for kind in COLLECTIVES), 0, 0) for line in signs
    ]
    permutes = sum(line["collective-permute"][0] for line in lines)
    return [*found, Target("collective-permutes in all", permutes, 0, 0)]
