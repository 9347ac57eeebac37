"""Ways to patch a rule of the library that is nearly right, for test_wrong_rules.py."""

from __future__ import annotations

import functools
import types

import jax
import jax.numpy as jnp
import optax

from optax_adahessian import _alias, _diagonal, _moments


def replacing(module, name, wrong):
    """A patch of a function; `wrong` gets the right one before the arguments."""
    return lambda monkeypatch: monkeypatch.setattr(module, name, functools.partial(wrong, getattr(module, name)))


def root(wrong):
    """A patch of the denominator before eps: ``wrong(nu, weight, k)``."""
    return replacing(_moments, "powered_root", lambda _, nu, weight, k: jax.tree.map(lambda v: wrong(v, weight, k), nu))


def direction(wrong):
    """A patch of the direction's arguments: ``wrong(g, mu, mu_weight, root, eps)`` returns all but g."""

    def directions(right, updates, mu, mu_weight, nu_root, eps, spatial_average):
        changed = wrong(updates, mu, mu_weight, nu_root, eps)
        return right(updates, *changed, spatial_average)

    return replacing(_moments, "directions", directions)


def square(wrong):
    """A patch of what enters nu: ``wrong(h, block)`` at block size."""

    def squared_curvature(_, hessian_diag, nu, average):
        del nu
        return jax.tree_util.tree_map_with_path(lambda path, h: wrong(h, average.block_shape(path, h)), hessian_diag)

    return replacing(_moments, "squared_curvature", squared_curvature)


def chain(make):
    """A patch of how the optimizer is put together: ``make(scale, weight_decay, learning_rate)``."""
    stand_in = types.SimpleNamespace(
        chain=make, add_decayed_weights=lambda decay, mask: decay, scale_by_learning_rate=lambda rate: rate
    )
    return lambda monkeypatch: monkeypatch.setattr(_alias, "optax", stand_in)


def with_update(tx, wrong):
    """`tx` with another update: ``wrong(updates, state, params, **extra_args)``."""
    return optax.GradientTransformationExtraArgs(tx.init, wrong)


def coupled_decay(scale, decay, rate):
    """Decay as a part of the gradient."""
    tx = optax.chain(scale, optax.scale_by_learning_rate(rate))

    def update(updates, state, params, **extra_args):
        decayed = jax.tree.map(lambda g, p: g + decay * p, updates, params)
        return tx.update(decayed, state, params, **extra_args)

    return with_update(tx, update)


def decay_at_the_end(rule):
    """Decay by ``rule(update, p, decay, first learning rate)`` after the scaling by the learning rate."""

    def make(scale, decay, rate):
        last = optax.stateless(
            lambda updates, params: jax.tree.map(lambda u, p: u + rule(u, p, decay, rate(0)), updates, params)
        )
        return optax.chain(scale, optax.scale_by_learning_rate(rate), last)

    return chain(make)


def late_rate(scale, decay, rate):
    """The learning rate of the step before."""
    late = optax.scale_by_learning_rate(lambda count: rate(jnp.maximum(count - 1, 0)))
    return optax.chain(scale, optax.add_decayed_weights(decay), late)


def scale(wrong):
    """A patch of the scaling that the optimizer is made of: ``wrong(right, **arguments)``."""
    return replacing(_alias, "scale_by_adahessian", wrong)


def stale_not_folded(right, **arguments):
    """Between two estimates of its own schedule, `hessian_diag` is ignored."""
    tx = right(**arguments)

    def update(updates, state, params, hessian_diag):
        folded = tx.update(updates, state, params, hessian_diag=hessian_diag)
        ignored = tx.update(updates, state, params, hessian_diag=None)
        due = state.count % arguments["update_interval"] == 0
        return jax.tree.map(lambda yes, no: jnp.where(due, yes, no), folded, ignored)

    return with_update(tx, update)


def stale_is_zero(right, **arguments):
    """Between two estimates, zero curvature is folded."""
    tx = right(**arguments)

    def update(updates, state, params, hessian_diag):
        due = state.count % arguments["update_interval"] == 0
        return tx.update(updates, state, params, hessian_diag=jax.tree.map(lambda h: h * due, hessian_diag))

    return with_update(tx, update)


def own_leaf_only(right, loss, params, vector, hvp, **options):
    """A Hessian without the blocks that couple two leaves."""
    value, grads, *_ = right(loss, params, vector, hvp, **options)

    def product(vector):
        leaves, structure = jax.tree.flatten(vector)
        alone = [[v * (i == j) for j, v in enumerate(leaves)] for i in range(len(leaves))]
        products = [right(loss, params, structure.unflatten(v), hvp)[2] for v in alone]
        return structure.unflatten([jax.tree.leaves(p)[i] for i, p in enumerate(products)])

    return value, grads, product(vector), product


def gradient_outer_product(right, loss, params, vector, hvp, **options):
    """The gradient's outer product in the place of the Hessian."""
    value, grads, *_ = right(loss, params, vector, hvp, **options)

    def product(vector):
        return optax.tree.scale(optax.tree.vdot(grads, vector), grads)

    return value, grads, product(vector), product


def strided(h, block):
    """Blocks of every n-th entry, as in the TensorFlow code, for cut last axes."""
    runs = h.shape[-1] // block[-1]
    means = jnp.mean(jnp.abs(h).reshape(*h.shape[:-1], block[-1], runs), axis=-2)
    return jnp.square(means)


def blocks(wrong):
    """A patch of a preset: ``wrong(shape, right block)``."""

    def preset(right, *arguments):
        right_block = right(*arguments)
        return lambda path, leaf: wrong(leaf.shape, right_block(path, leaf))

    return preset


def probes(draw):
    """A patch of the probes: ``draw(key, leaf)`` for every leaf, all with the same key."""
    return replacing(
        _diagonal, "rademacher_like", lambda _, key, tree: jax.tree.map(lambda leaf: draw(key, leaf), tree)
    )


def signed(wrong):
    """A patch of the terms of the mean over probes: ``wrong(z, Hz)``."""
    return replacing(_diagonal, "_signed", lambda _, probe, product: jax.tree.map(wrong, probe, product))


def sum_over_probes(right, loss, key, params, num_probes, *options):
    """The sum over the probes in the place of the mean."""
    value, grads, diag = right(loss, key, params, num_probes, *options)
    return value, grads, optax.tree.scale(num_probes, diag)


def eps_squared_in(g, mu, mu_weight, root, eps):
    """eps under a further root: inside of the root for k = 1, inside of the power for k = 1/2."""
    del g
    return mu, mu_weight, jax.tree.map(lambda r: jnp.sqrt(r * r + eps), root), 0.0
