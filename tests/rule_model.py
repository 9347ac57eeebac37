"""The rule of the transformation in a few lines of float64 NumPy, over lists of leaves, and the bounds of rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def numpy_block_mean(x, block):
    """The mean of each block, repeated over it."""
    out = np.empty_like(x)
    sizes = [n if b == -1 else b for n, b in zip(x.shape, block, strict=True)]
    for index in np.ndindex(*x.shape):
        corner = [i // b * b for i, b in zip(index, sizes, strict=True)]
        out[index] = np.mean(x[tuple(slice(c, c + b) for c, b in zip(corner, sizes, strict=True))])
    return out


def adapted_memory(memory, g, mu, b1):
    """The steps that Nesterov's momentum reaches back, from those before and lists of leaves."""

    def dot(a, b):
        return sum(np.sum(np.asarray(x, float) * np.asarray(y, float)) for x, y in zip(a, b, strict=True))

    norms = np.sqrt(dot(g, g) * dot(mu, mu))
    cosine = dot(g, mu) / norms if norms else 0.0
    return min(max(memory - cosine / 5, 3.0), 1 / (1 - b1))


def numpy_rule(
    grads,
    diags,
    blocks,
    *,
    b1,
    b2,
    eps,
    hessian_power,
    signed=False,
    time_average="rms",
    nesterov=False,
    memories=None,
):
    """The updates of every step, for lists of leaves; a diagonal of None is a step without an estimate.

    The memory of Nesterov's momentum follows from the gradients, but where `memories` gives it for every step.
    """
    mu, nu, weight, since, memory = [np.zeros(1) for _ in blocks], [0.0] * len(blocks), 0.0, 0, 3.0
    for t, (g, h) in enumerate(zip(grads, diags, strict=True), start=1):
        if nesterov:
            memory = adapted_memory(memory, g, mu, b1) if memories is None else float(memories[t - 1])
        decay = 1 - 1 / min(memory, t) if nesterov else b1
        mu, since = [decay * m + (1 - decay) * x for m, x in zip(mu, g, strict=True)], since + 1
        if nesterov:
            numerators = [decay * m + (1 - decay) * x for m, x in zip(mu, g, strict=True)]
        else:
            numerators = [m / (1 - b1**t) for m in mu]
        if h is not None and all(np.all(np.isfinite(x)) for x in h):
            keep, since = b2**since, 0
            keeps_sign, exponent = signed or time_average == "mean", {"rms": 2, "mean": 1}[time_average]
            means = [numpy_block_mean(x if keeps_sign else np.abs(x), b) for x, b in zip(h, blocks, strict=True)]
            nu = [keep * v + (1 - keep) * d**exponent for v, d in zip(nu, means, strict=True)]
            weight = keep * weight + 1 - keep
        roots = [np.abs(v / weight) ** (hessian_power / exponent) if weight else np.inf for v in nu]
        yield [m / (root + eps) for m, root in zip(numerators, roots, strict=True)]


def rounding(steps, dtype, mu_dtype, b1, b2, nesterov):
    """The error of one update, relative to one of gradients without signs, in which nothing cancels.

    mu is rounded once a step to the dtype it is stored in, the update once to that of the gradients. In the dtype
    that both moments are computed in, a step takes less than 16 operations, and 1 - w, by which the old second moment
    decays, has the error of w, which is that of 1: it is magnified by 1 / (1 - w) = b2**-steps at most. The model's
    own 1 - b**D has the error of 1 in float64, relative to 1 - b at least.

    Nesterov's momentum combines once more, in four operations, and its decay 1 - 1/m, of a memory m that both are
    given, is computed as well, with an error below 2 eps: in 1/m <= 1/2 there is a rounding of eps/2 of itself, and
    there are two of eps/4, of the difference and to the leaf's own dtype. (At the first step, m = 1, it is 0.) As
    1 - decay >= 1/m >= 1/t, that is at most 2 t eps of 1 - decay, and 4 eps of a decay of 1/2 or more; a smaller one,
    with the `b1` that are tested, is 0. The weight that the update gives to a gradient is a 1 - decay and a decay for
    every later step and the look ahead: it is off by 4 t eps of itself at most. The model's own weight, in float64, is
    off by as many.
    """
    float64 = float(np.finfo(float).eps)
    model = float64 / (1 - max(b1, b2))
    own, stored, accumulator = (
        float(jnp.finfo(d).eps) for d in (dtype, mu_dtype or dtype, jnp.promote_types(dtype, jnp.float32))
    )
    momentum = 8 * (accumulator + float64) if nesterov else 0.0
    return own + steps * (stored + model + 16 * accumulator * (b2**-steps if b2 else 1) + momentum)


def model_and_bounds(grads, diags, tree, mu_dtype=None, signed=False, memories=None, **hyper):
    """The leaves of every update and how far from them rounding may lead; with `memories`, by Nesterov's momentum.

    Those are the tested run's own: where gradients cancel, no bound of mu's rounding is one of the angle to it.
    """
    leaves = jax.tree.leaves(tree)
    blocks = [leaf.block for leaf in leaves]
    nesterov = memories is not None
    hyper |= {"signed": signed, "nesterov": nesterov, "memories": memories}
    rule = functools.partial(numpy_rule, diags=diags, blocks=blocks, **hyper)
    right, sizes = rule(grads), rule([list(map(np.abs, g)) for g in grads])
    for steps, (update, size) in enumerate(zip(right, sizes, strict=True), start=1):
        errors = [rounding(steps, leaf.dtype, mu_dtype, hyper["b1"], hyper["b2"], nesterov) for leaf in leaves]
        yield update, [error * s for error, s in zip(errors, size, strict=True)]


def assert_memory_follows(memory, before, g, b1):
    """That of a step from the state before it and the gradient, a tree, each as it is stored."""
    leaves, eps = jax.tree.leaves(g), float(jnp.finfo(memory.dtype).eps)
    right = adapted_memory(float(before.memory), leaves, jax.tree.leaves(before.mu), b1)
    # A sum of n products is off by n eps/2 of the product of the norms, the norms by as much of themselves. The cosine
    # takes four more operations, the memory three, and those on 1 / (1 - b1), by which it is cut off, are off by eps.
    n = sum(leaf.size for leaf in leaves)
    assert abs(float(memory) - right) <= eps * ((n + 4) / 5 + 2.5 * right)


def assert_within(updates, right, bounds):
    for u, r, bound in zip(jax.tree.leaves(updates), right, bounds, strict=True):
        assert np.all(np.abs(np.asarray(u, float) - r) <= bound), (u, r, bound)
