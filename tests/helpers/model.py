"""The rule in a few lines of float64 NumPy."""

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
