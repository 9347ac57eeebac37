"""The rules of the library in a few lines of float64 NumPy, over lists of leaves, and the bounds of rounding."""

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


def ema_weight(decay, steps):
    """1 - decay**steps without cancellation."""
    with np.errstate(divide="ignore"):
        return -np.expm1(steps * np.log(decay))


@np.errstate(invalid="ignore")
def numpy_rule(grads, diags, blocks, *, b1, b2, eps, hessian_power, signed=False):
    """The updates of every step, for lists of leaves; a diagonal of None is a step without an estimate."""
    mu, nu, last = [np.zeros(1) for _ in blocks], [np.full(1, np.nan) for _ in blocks], 0
    for t, (g, h) in enumerate(zip(grads, diags, strict=True), start=1):
        mu = [b1 * m + (1 - b1) * x for m, x in zip(mu, g, strict=True)]
        if h is not None:
            weight = ema_weight(b2, t - last) / ema_weight(b2, t)
            means = [numpy_block_mean(x if signed else np.abs(x), b) for x, b in zip(h, blocks, strict=True)]
            means = [np.where(np.isfinite(d), d, np.nan) for d in means]
            averages = [(1 - weight) * v + weight * d**2 for v, d in zip(nu, means, strict=True)]
            # NaN is not known: the average where the estimate is, and the estimate where the average is.
            nu = [
                np.where(np.isnan(d), v, np.where(np.isnan(v), d**2, a))
                for v, d, a in zip(nu, means, averages, strict=True)
            ]
            last = t
        steps = [m / ema_weight(b1, t) / (v ** (hessian_power / 2) + eps) for m, v in zip(mu, nu, strict=True)]
        yield [np.where(np.isnan(v), 0.0, step) for v, step in zip(nu, steps, strict=True)]


def rounding(steps, dtype, mu_dtype, b2):
    """The error of one update, relative to one of gradients without signs, in which nothing cancels.

    mu is rounded once a step to the dtype it is stored in, the update once to that of the gradients. Both moments are
    computed in at least float32, where a step takes less than 16 operations. The average of an estimate D steps after
    the last one has the weight w = (1 - b2^D) / (1 - b2^t). Where the new square is 0 all that is left is 1 - w, which
    has the error of w, magnified by w / (1 - w) <= D b2^-D. The D of all estimates add up to `steps` at most.
    """
    own, stored, computed = (
        float(jnp.finfo(d).eps) for d in (dtype, mu_dtype or dtype, jnp.promote_types(dtype, "f4"))
    )
    return own + steps * (stored + 16 * (computed + 2.0**-52) * (b2**-steps if b2 else 1))


def model_and_bounds(grads, diags, tree, mu_dtype=None, signed=False, **hyper):
    """The leaves of every update and how far from them rounding may lead."""
    leaves = jax.tree.leaves(tree)
    blocks = [leaf.block for leaf in leaves]
    right = numpy_rule(grads, diags, blocks, signed=signed, **hyper)
    sizes = numpy_rule([list(map(np.abs, g)) for g in grads], diags, blocks, signed=signed, **hyper)
    for steps, (update, size) in enumerate(zip(right, sizes, strict=True), start=1):
        errors = [rounding(steps, leaf.dtype, mu_dtype, hyper["b2"]) for leaf in leaves]
        yield update, [error * s for error, s in zip(errors, size, strict=True)]


def assert_within(updates, right, bounds):
    for u, r, bound in zip(jax.tree.leaves(updates), right, bounds, strict=True):
        assert np.all(np.abs(np.asarray(u, float) - r) <= bound), (u, r, bound)


def numpy_nesterov(grads, b1):
    """Updates and memories of `adaptive_nesterov`, for vectors."""
    ema, memory = np.zeros_like(grads[0]), 3.0
    for t, g in enumerate(grads, start=1):
        norms = np.linalg.norm(g) * np.linalg.norm(ema)
        memory = min(max(memory - (g @ ema / norms if norms else 0.0) / 5, 3.0), 1 / (1 - b1))
        decay = 1 - 1 / min(memory, t)
        ema = decay * ema + (1 - decay) * g
        yield decay * ema + (1 - decay) * g, memory
