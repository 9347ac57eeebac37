"""What is compared: the rows of the main table, and those of the studies."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import optax_adahessian as oah

Settings = dict[str, float]  # numbers by name, "learning_rate" among them: the peak of the schedule

BASELINE, PAPER, OURS = "AdamW", "AdaHessian (paper)", "AdaHessian (recommended)"
OURS_PLAIN = "recommended, plain momentum"  # the rule's own
WIDE = (-4, 5)  # the rates of a grid: four and a half decades


class Row(NamedTuple):
    """An optimizer, where its search starts, and what it tries. Numbers may be traced, so that a row is one program."""

    make: Callable[..., Any]  # takes the settings as keywords
    numbers: Settings  # at the start, all but the learning rate
    rate: float  # in the middle of the rates that are tried
    second: tuple[str, tuple[float, ...]]  # what is tuned after the rate; the rate's values are multiples of the best
    factor: float = 10**0.5  # between rates
    interval: int = 0  # steps between estimates; 0: takes no `hessian_diag`
    num_probes: int = 1
    takes_loss: bool = False  # and estimates from it by itself
    grid: bool = False  # trained at WIDE rates too

    def rates(self, low: int = -2, high: int = 3) -> list[float]:
        """Learning rates around the middle."""
        return [rounded(self.rate * self.factor**k) for k in range(low, high + 1)]


def rounded(value: float) -> float:
    """To three digits, which is how settings are reported."""
    return float(f"{value:.3g}")


def _adahessian(clip: Any = None, **settings: Any) -> Any:
    rule = oah.adahessian(**settings)
    return rule if clip is None else optax.chain(rule, optax.clip(clip))


def _after_momentum(rule: Callable[..., Any], b1: float = 0.99) -> Callable[..., Any]:
    """The rule without momentum, and the adaptive one in front."""
    return lambda **settings: optax.chain(oah.adaptive_nesterov(b1), rule(b1=0, **settings))


# A weight decay acts through its product with the learning rate, so that one number would be many decays: none has any.
_adamw, _nadamw, _sophia = (
    functools.partial(make, weight_decay=0.0) for make in (optax.adamw, optax.nadamw, optax.contrib.sophia)
)
_B2, _GAMMA = ("b2", (0.9, 0.95, 0.98, 0.99)), ("gamma", (0.001, 0.00316, 0.0316, 0.1))
_CLIP = ("clip", (0.001, 0.00316, 0.0316, 0.1))  # with the default, 0.1 to 10 times it in equal factors
_RECOMMENDED, _PAPER = {"b2": 0.98, "eps": 1e-8, "clip": 0.01}, {"b1": 0.9, "b2": 0.999, "eps": 1e-4}

ROWS: dict[str, Row] = {
    "SGD": Row(optax.sgd, {"momentum": 0.9}, 3e-3, ("momentum", (0.8, 0.95, 0.98, 0.99)), factor=10.0),
    BASELINE: Row(_adamw, {"b2": 0.999}, 3e-3, _B2, grid=True),
    "NAdamW": Row(_nadamw, {"b2": 0.999}, 3e-3, _B2),
    "Sophia": Row(_sophia, {"gamma": 0.01}, 1e-3, _GAMMA, takes_loss=True),
    PAPER: Row(_adahessian, _PAPER, 0.474, ("learning_rate", (0.42, 0.75, 1.33, 2.4)), interval=1, grid=True),
    OURS_PLAIN: Row(_adahessian, _RECOMMENDED, 0.474, _CLIP, interval=10, grid=True),
    OURS: Row(_after_momentum(_adahessian), _RECOMMENDED, 0.474, _CLIP, interval=10, grid=True),
    "AdamW, momentum in front": Row(_after_momentum(_adamw), {"b2": 0.999}, 3e-3, _B2),
}


def _ours(make: Any = _adahessian, interval: int = 10, num_probes: int = 1, **numbers: float) -> Row:
    return Row(make, _RECOMMENDED | numbers, 0.474, _CLIP, interval=interval, num_probes=num_probes)


BASE, PAPER_10, NO_CLIP = "reference", "paper, every 10, no clip", 1e30
STUDY_TASKS = ("relu", "autoencoder", "transformer")  # the last, which takes longest, without the intervals

STUDIES: dict[str, dict[str, Row]] = {  # each with BASE as its first row
    "interval": {
        "every step": _ours(interval=1),
        "every 50": _ours(interval=50),
        "every step, no clip": _ours(interval=1, clip=NO_CLIP),
        "every 10, no clip": _ours(clip=NO_CLIP),
        "every 50, no clip": _ours(interval=50, clip=NO_CLIP),
        PAPER_10: ROWS[PAPER]._replace(interval=10),
        "paper, every 10, clip": _ours(**_PAPER),
    },
    "b2_eps": {
        "b2 0.95": _ours(b2=0.95),
        "b2 0.999": _ours(b2=0.999),
        "eps 1e-4": _ours(eps=1e-4),
        "b2 0.999, eps 1e-4": _ours(b2=0.999, eps=1e-4),
    },
    "averaging": {
        "rows": _ours(functools.partial(_adahessian, spatial_average=oah.SpatialAverage.rows("HWIO"))),
        "lengths(8)": _ours(functools.partial(_adahessian, spatial_average=oah.SpatialAverage.lengths(8, "HWIO"))),
    },
    "probes": {"4 probes": _ours(num_probes=4)},
    "momentum": {
        "b1 0.95": _ours(b1=0.95),
        "adaptive_nesterov(0.95)": _ours(_after_momentum(_adahessian, 0.95)),
        "adaptive_nesterov(0.99)": _ours(_after_momentum(_adahessian)),
    },
}
STUDY_ROWS = {BASE: _ours()} | {name: row for study in STUDIES.values() for name, row in study.items()}
