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


class Rule:
    """AdaHessian's direction for one leaf, called with the gradient and the estimate of each step, or None for none."""

    def __init__(self, block=None, *, b1=0.9, b2=0.999, eps=1e-4, hessian_power=1.0, signed=False):
        self.block, self.b1, self.b2, self.eps, self.k, self.signed = block, b1, b2, eps, hessian_power, signed
        self.t, self.last, self.mu, self.nu = 0, 0, 0.0, np.nan  # NaN: nothing is known

    @np.errstate(invalid="ignore")
    def __call__(self, g, h):
        self.t += 1
        self.mu = self.b1 * self.mu + (1 - self.b1) * g
        if h is not None:
            d = h if self.signed else np.abs(h)
            self.fold(d if self.block is None else numpy_block_mean(d, self.block))
        step = self.mu / ema_weight(self.b1, self.t) / (self.nu ** (self.k / 2) + self.eps)
        return np.where(np.isnan(self.nu), 0.0, step)

    def fold(self, d):
        """Where the estimate is not finite the average stays, and where there is none so far the estimate is it."""
        weight = ema_weight(self.b2, self.t - self.last) / ema_weight(self.b2, self.t)
        average = np.where(np.isnan(self.nu), d**2, (1 - weight) * self.nu + weight * d**2)
        self.nu, self.last = np.where(np.isfinite(d), average, self.nu), self.t


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


def model_and_bounds(grads, diags, tree, mu_dtype=None, **hyper):
    """The leaves of every update and how far from them rounding may lead."""
    leaves = jax.tree.leaves(tree)
    right, sizes = ([Rule(leaf.block, **hyper) for leaf in leaves] for _ in range(2))
    for steps, (g, h) in enumerate(zip(grads, diags, strict=True), start=1):
        h = [None] * len(leaves) if h is None else h
        errors = [rounding(steps, leaf.dtype, mu_dtype, hyper["b2"]) for leaf in leaves]
        yield (
            [rule(*arrays) for rule, *arrays in zip(right, g, h, strict=True)],
            [error * rule(np.abs(x), y) for error, rule, x, y in zip(errors, sizes, g, h, strict=True)],
        )


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
