"""The paper's own settings, for the tests of its rule: no bound hides a step, and its denominator is in closed form."""

import functools

import optax_adahessian as oah

SCALING = {"eps": 1e-4, "time_average": "rms"}
PAPER = {**SCALING, "b1": 0.9, "nesterov": False, "max_step": None}
scale_by_adahessian = functools.partial(oah.scale_by_adahessian, **SCALING)
adahessian = functools.partial(oah.adahessian, **PAPER)
