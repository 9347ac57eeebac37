"""What is compared: each optimizer with its defaults, and twelve tuning runs for all alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import optax_adahessian as oah

Settings = dict[str, Any]  # numbers, texts and bools by name, with "learning_rate" the peak of the schedule

BASELINE, SAME_MOMENTUM, OURS = "AdamW", "AdamW, same momentum", "AdaHessian"
TUNING_RUNS = 12
FACTORS = (0.6, 1.6)  # of the last round: rates beside the best
AVERAGES = {"none": oah.SpatialAverage.none(), "rows": oah.SpatialAverage.rows("HWIO")}


class Optimizer(NamedTuple):
    """A row of the table.

    `make` takes the settings as keywords, all but "update_interval", which is the loop's. Those that are not `static`
    may be traced.
    """

    make: Callable[..., optax.GradientTransformation]
    lowest_rate: float  # the first round goes up from here through two decades
    defaults: Settings
    rounds: tuple[tuple[Settings, ...], ...]  # between the first and the last; each varies the best so far
    static: tuple[str, ...] = ()
    cycle: int = 1  # steps after which costs repeat, where the settings have no "update_interval"
    takes_diagonal: bool = False  # fed by `hessian_diag`, in a loop of two programs; the others by `obj_fn` or nothing

    @property
    def first_round(self) -> tuple[Settings, ...]:
        """Six learning rates, each 2.5 times the one before."""
        return tuple({"learning_rate": rounded(self.lowest_rate * 2.5**i)} for i in range(6))

    def structure(self, settings: Settings) -> Settings:
        """The settings that decide about the time of a step."""
        return {name: value for name, value in settings.items() if name in (*self.static, "update_interval")}

    def structures(self) -> list[Settings]:
        """All that a search can come to: every combination of what its rounds try."""
        found = [self.structure(self.defaults)]
        changes = [self.structure(change) for round_ in self.rounds for change in round_]
        for change in changes:
            combined = [old | change for old in found]
            found += [new for i, new in enumerate(combined) if new not in [*found, *combined[:i]]]
        return found


def rounded(value: float) -> float:
    """To three digits, which is how settings are reported."""
    return float(f"{value:.3g}")


def _sophia(learning_rate: Any, **settings: Any) -> optax.GradientTransformation:
    return optax.contrib.sophia(learning_rate, update_interval=10, **settings)


def _adamw_same_momentum(learning_rate: Any, **settings: Any) -> optax.GradientTransformation:
    """AdamW with AdaHessian's momentum: its denominator is the root mean square of what it takes for the diagonal."""
    tx = oah.adahessian(learning_rate, time_average="rms", max_step=None, **settings)

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return tx.update(updates, state, params, hessian_diag=updates)

    return optax.GradientTransformation(tx.init, update_fn)


def _adahessian(learning_rate: Any, spatial_average: str, **settings: Any) -> optax.GradientTransformation:
    return oah.adahessian(learning_rate, spatial_average=AVERAGES[spatial_average], **settings)


_ADAMW = Optimizer(
    make=optax.adamw,
    lowest_rate=3e-4,
    defaults={"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 1e-4},
    rounds=(({"b1": 0.95},), ({"b2": 0.95}, {"b2": 0.98}), ({"eps": 1e-4},)),
)

OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": Optimizer(
        make=optax.sgd,
        lowest_rate=0.005,
        defaults={"momentum": 0.9, "nesterov": False},
        rounds=(({"momentum": 0.8}, {"momentum": 0.95}, {"momentum": 0.98}), ({"nesterov": True},)),
        static=("nesterov",),
    ),
    BASELINE: _ADAMW,
    SAME_MOMENTUM: _ADAMW._replace(
        make=_adamw_same_momentum,
        defaults=_ADAMW.defaults | {"b1": 0.99},
        rounds=(({"b1": 0.95},), *_ADAMW.rounds[1:]),
    ),
    "Sophia": Optimizer(
        make=_sophia,
        lowest_rate=2e-4,
        defaults={"gamma": 0.01, "b2": 0.99, "weight_decay": 1e-4},
        rounds=(({"gamma": 0.003}, {"gamma": 0.03}), ({"b2": 0.95}, {"b2": 0.999})),
        cycle=10,
    ),
    OURS: Optimizer(
        make=_adahessian,
        lowest_rate=0.1,
        defaults={"b1": 0.99, "max_step": 0.004, "update_interval": 50, "spatial_average": "none"},
        rounds=(
            ({"b1": 0.95},),
            ({"max_step": 0.002},),
            ({"spatial_average": "rows"},),
            ({"update_interval": 10},),
        ),
        static=("spatial_average",),
        takes_diagonal=True,
    ),
}
