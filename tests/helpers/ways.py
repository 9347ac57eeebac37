"""Twenty training steps on a small net, in every way in which JAX spreads a computation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

STEPS = 20
AXIS = "data"


class Run(NamedTuple):
    """What twenty steps left behind."""

    losses: np.ndarray
    params: Any
    state: Any


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """Squared error of a net with one hidden layer: every parameter is coupled with every other."""
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["hidden"]) @ params["output"] - y) ** 2)


def initial_params() -> Any:
    """Leaves whose axes eight devices divide."""
    keys = jax.random.split(jax.random.key(0))
    return {"hidden": jax.random.normal(keys[0], (16, 32)) / 4, "output": jax.random.normal(keys[1], (32, 8)) / 6}


def batch_at(step: int, size: int = 32) -> Any:
    """The batch of one step, the same in every way."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
    x = jax.random.normal(keys[0], (size, 16))
    return x, jnp.sin(x[:, :8]) + 0.1 * jax.random.normal(keys[1], (size, 8))


def key_at(step: int) -> jax.Array:
    """The key of one step, the same in every way: shared probes."""
    return jax.random.fold_in(jax.random.key(2), step)


def optimizer(axis_name: Any = None, **options: Any) -> optax.GradientTransformationExtraArgs:
    """AdaHessian with one second moment for each output."""
    options = {"spatial_average": oah.SpatialAverage.rows("HWIO"), **options}
    return oah.adahessian(0.1, hessian_diagonal_fn=oah.hutchinson(axis_name=axis_name), **options)


def step_of(feed: Any, tx: Any, loss: Any = loss_fn, axis_name: Any = None) -> Callable[..., Any]:
    """A training step with one of the ways of `helpers.feeds`."""

    def step(params: Any, state: Any, key: jax.Array, batch: Any) -> tuple[Any, Any, jax.Array]:
        updates, state, value = feed(tx, lambda p: loss(p, batch), params, state, key, axis_name)
        return optax.apply_updates(params, updates), state, value

    return step


def train(step: Any, params: Any, state: Any, place: Any = lambda batch: batch) -> Run:
    """Twenty calls of one compiled program, which raises where a call would need another compilation."""
    losses = []
    program = step.lower(params, state, key_at(0), place(batch_at(0))).compile()
    for i in range(STEPS):
        params, state, value = program(params, state, key_at(i), place(batch_at(i)))
        losses.append(np.ravel(value)[0])
    return Run(np.array(losses), params, state)


@functools.cache
def one_device(feed: Any) -> Run:
    """The run that all others are compared with."""
    tx, params = optimizer(), initial_params()
    return train(jax.jit(step_of(feed, tx)), params, tx.init(params))


def by_pmap(feed: Any) -> Run:
    """Stacked replicas, one on each device."""
    devices, tx, params = jax.device_count(), optimizer(AXIS), initial_params()
    stacked = jax.tree.map(lambda a: jnp.broadcast_to(a[None], (devices, *a.shape)), (params, tx.init(params)))
    stacked = jax.device_put(stacked, NamedSharding(mesh_of(AxisType.Auto), P(AXIS)))
    step = jax.pmap(step_of(feed, tx, axis_name=AXIS), axis_name=AXIS, in_axes=(0, 0, None, 0))
    return train(step, *stacked, lambda batch: jax.tree.map(lambda a: a.reshape(devices, -1, *a.shape[1:]), batch))


def by_shard_map(feed: Any, axis_type: AxisType, check_vma: bool) -> Run:
    """Replicated parameters, a split batch, the mean taken by `axis_name`."""
    mesh, tx = mesh_of(axis_type), optimizer(AXIS)
    step = jax.jit(shard_mapped(step_of(feed, tx, axis_name=AXIS), mesh, check_vma))
    params, state = jax.device_put((initial_params(), tx.init(initial_params())), NamedSharding(mesh, P()))
    return train(step, params, state, lambda batch: jax.device_put(batch, NamedSharding(mesh, P(AXIS))))


def shard_mapped(step: Any, mesh: jax.sharding.Mesh, check_vma: bool = True) -> Any:
    """A step over replicated parameters and a split batch."""
    return jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P(), P(), P(AXIS)), out_specs=(P(), P(), P()), check_vma=check_vma
    )


def by_jit(feed: Any, mesh: jax.sharding.Mesh, params_spec: P, loss: Any = loss_fn) -> Run:
    """Plain jit: shardings on the arguments, and no option at all."""
    tx, params = optimizer(), jax.device_put(initial_params(), NamedSharding(mesh, params_spec))
    shardings = jax.tree.map(lambda p: p.sharding, params), state_shardings(tx, params), NamedSharding(mesh, P())
    step = jax.jit(step_of(feed, tx, loss), out_shardings=shardings)
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init, out_shardings=shardings[1])(params)
        return train(step, params, state, lambda batch: jax.device_put(batch, NamedSharding(mesh, P(AXIS))))


def loss_in_shard_map(mesh: jax.sharding.Mesh, params_spec: P) -> Callable[[Any, Any], jax.Array]:
    """The loss alone in shard_map: it gathers sharded parameters, and takes the mean over the batch."""

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        if params_spec == P(AXIS):
            params = jax.tree.map(lambda p: jax.lax.all_gather(p, AXIS, tiled=True), params)
        return jax.lax.pmean(loss_fn(params, batch), AXIS)

    return jax.shard_map(mean_loss, mesh=mesh, in_specs=(params_spec, P(AXIS)), out_specs=P())


def gathered_by_reshard(params: Any, batch: Any) -> jax.Array:
    """The loss for an Explicit mesh: products over a sharded axis want whole parameters."""
    return loss_fn(jax.tree.map(lambda p: jax.reshard(p, P()), params), batch)


def mesh_of(axis_type: AxisType, **shape: int) -> jax.sharding.Mesh:
    """A mesh over all devices, of one axis unless `shape` says otherwise."""
    shape = shape or {AXIS: jax.device_count()}
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(axis_type,) * len(shape))


def state_shardings(tx: Any, params: Any) -> Any:
    """For every leaf of the state the sharding of its parameter, replicated along axes that a block swallows."""

    def like(leaf: Any, param: jax.Array) -> NamedSharding:
        axes = zip(param.sharding.spec, leaf.shape, param.shape, strict=False)
        return NamedSharding(param.sharding.mesh, P(*[name if n == m else None for name, n, m in axes]))

    replicated = NamedSharding(jax.tree.leaves(params)[0].sharding.mesh, P())
    state = jax.eval_shape(tx.init, params)
    return optax.tree.map_params(tx, like, state, params, transform_non_params=lambda _: replicated)


def assert_replicas_are_identical(tree: Any) -> None:
    """Devices that hold the same part of an array hold the same bits."""
    for leaf in jax.tree.leaves(tree):
        parts: dict[str, set[bytes]] = {}
        for shard in leaf.addressable_shards:
            parts.setdefault(str(shard.index), set()).add(np.asarray(shard.data).tobytes())
        assert all(len(replicas) == 1 for replicas in parts.values())
