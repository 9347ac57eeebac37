"""What is compared: the rows of the main table, and those of the studies."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from optax.contrib import MuonDimensionNumbers

import optax_adahessian as oah

Settings = dict[str, float]  # numbers by name, "learning_rate" among them: the peak of the schedule

BASELINE, PAPER, OURS, BASE = "AdamW", "AdaHessian (paper)", "AdaHessian (recommended)", "recommended"
WIDE = (-4, 5)  # the rates of a grid: four and a half decades
JOINT = (-2, 4)  # the rates that are combined with every clip


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
    joint: bool = False  # and at JOINT rates with every value of the second number
    tasks: tuple[str, ...] | None = None  # that it is for, if not for all
    steps: int | None = None  # of a study, if not those of the task
    base: str = BASE  # the row of the same study that it is compared with

    def rates(self, low: int = -2, high: int = 3) -> list[float]:
        """Learning rates around the middle."""
        return [rounded(self.rate * self.factor**k) for k in range(low, high + 1)]


def rounded(value: float) -> float:
    """To three digits, which is how settings are reported."""
    return float(f"{value:.3g}")


def _adahessian(clip: Any = None, **settings: Any) -> Any:
    rule = oah.adahessian(**settings)
    return rule if clip is None else optax.chain(rule, optax.clip(clip))


def _after_momentum(rule: Callable[..., Any], limit: float = 0.99, b1: float = 0) -> Callable[..., Any]:
    """The rule, without its own momentum if b1 is 0, and the adaptive one in front."""
    return lambda **settings: optax.chain(oah.adaptive_nesterov(limit), rule(**{"b1": b1} | settings))


def _decoupled(make: Callable[..., Any]) -> Callable[..., Any]:
    """With a weight decay that is multiplied by the learning rate, as AdamW's is."""

    def with_decay(weight_decay: Any = 0.0, mask: Any = None, **settings: Any) -> Any:
        decay = optax.add_decayed_weights(-settings["learning_rate"] * weight_decay, mask)
        return optax.chain(make(**settings), decay)

    return with_decay


def _muon(learning_rate: Any, adam: Any) -> Any:
    """Muon for hidden kernels, and for embeddings, the last kernel and vectors Adam at `adam` times the rate."""

    def use(params: Any) -> Any:
        leaves, structure = jax.tree_util.tree_flatten_with_path(params)
        names = [jax.tree_util.keystr(path) for path, _ in leaves]
        last = max(i for i, (_, leaf) in enumerate(leaves) if leaf.ndim > 1)
        ends = [i == last or "embedding" in name or "positions" in name for i, name in enumerate(names)]
        return structure.unflatten(
            "adam" if end or leaf.ndim < 2 else "muon" for end, (_, leaf) in zip(ends, leaves, strict=True)
        )

    def matrices(hidden: Any) -> Any:
        return jax.tree.map(lambda leaf: MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), hidden)

    muon = optax.contrib.muon(learning_rate, muon_weight_dimension_numbers=matrices)
    return optax.partition({"muon": muon, "adam": optax.adam(adam * learning_rate, b2=0.95)}, use)


_B2, _GAMMA = ("b2", (0.9, 0.95, 0.98, 0.99)), ("gamma", (0.001, 0.00316, 0.0316, 0.1))
_CLIP = ("clip", (0.001, 0.00316, 0.0316, 0.1))  # with the default, 0.1 to 10 times it in equal factors
_ADAM = ("adam", (0.015, 0.0474, 0.474, 1.5))  # the first is that of Muon's authors
_RATE = ("learning_rate", (0.42, 0.75, 1.33, 2.4))
_RECOMMENDED, _PAPER = {"b2": 0.98, "eps": 1e-8, "clip": 0.01}, {"b1": 0.9, "b2": 0.999, "eps": 1e-4}
_sophia = functools.partial(optax.contrib.sophia, weight_decay=0.0)
_averaged = functools.partial(_adahessian, spatial_average=oah.SpatialAverage.conv("HWIO"))


def _ours(make: Any = None, interval: int = 10, **numbers: Any) -> Row:
    own = {name: numbers.pop(name) for name in ("num_probes", "steps", "base") if name in numbers}
    return Row(make or _after_momentum(_adahessian), _RECOMMENDED | numbers, 0.474, _CLIP, interval=interval, **own)


ROWS: dict[str, Row] = {
    "SGD": Row(_decoupled(optax.sgd), {"momentum": 0.9}, 3e-3, ("momentum", (0.8, 0.95, 0.98, 0.99)), factor=10.0),
    BASELINE: Row(_decoupled(optax.adam), {"b2": 0.999}, 3e-3, _B2, grid=True),
    "NAdamW": Row(_decoupled(optax.nadam), {"b2": 0.999}, 3e-3, _B2),
    "Muon": Row(_decoupled(_muon), {"adam": 0.15}, 0.02, _ADAM),
    "Sophia": Row(_decoupled(_sophia), {"gamma": 0.01}, 1e-3, _GAMMA, takes_loss=True),
    PAPER: Row(_adahessian, _PAPER, 0.474, _RATE, interval=1, grid=True),
    "paper, conv averages": Row(_averaged, _PAPER, 0.474, _RATE, interval=1, tasks=("conv", "conv600", "decay")),
    OURS: _ours()._replace(grid=True, joint=True),
    "AdamW, momentum in front": Row(_decoupled(_after_momentum(optax.adam)), {"b2": 0.999}, 3e-3, _B2),
    "NAdamW, momentum in front": Row(_decoupled(_after_momentum(optax.nadam, b1=0.9)), {"b2": 0.999}, 3e-3, _B2),
}

NO_CLIP = 1e30
STUDY_TASKS = ("relu", "autoencoder", "chars")
_rows = _after_momentum(functools.partial(_adahessian, spatial_average=oah.SpatialAverage.rows("HWIO")))

STUDIES: dict[str, tuple[tuple[str, ...], dict[str, Row]]] = {  # tasks, and rows at the best of their rates
    "b2": (
        ("autoencoder", "chars"),
        {
            f"b2 {b2:g}, {steps:,} steps": _ours(b2=b2, steps=steps, base=f"b2 0.98, {steps:,} steps")
            for steps in (500, 2000, 8000)
            for b2 in (0.95, 0.98, 0.99, 0.999)
        },
    ),
    "interval": (STUDY_TASKS, {BASE: _ours(), "every step": _ours(interval=1), "every 50": _ours(interval=50)}),
    "clip": (
        STUDY_TASKS[:2],
        {
            BASE: _ours(),
            "every step, no clip": _ours(interval=1, clip=NO_CLIP),
            "every 10, no clip": _ours(clip=NO_CLIP),
            "paper, every 10, no clip": ROWS[PAPER]._replace(interval=10),
            "paper, every 10, clip": _ours(_adahessian, **_PAPER),
        },
    ),
    "rule": (
        STUDY_TASKS[:2],
        {BASE: _ours(), "eps 1e-4": _ours(eps=1e-4), "4 probes": _ours(num_probes=4), 'rows("HWIO")': _ours(_rows)},
    ),
    "momentum": (
        STUDY_TASKS,
        {
            BASE: _ours(),
            "b1 0.9": _ours(_adahessian),
            "b1 0.95": _ours(_adahessian, b1=0.95),
            "adaptive_nesterov(0.95)": _ours(_after_momentum(_adahessian, 0.95)),
        },
    ),
}
STUDY_ROWS = {name: row for _, rows in STUDIES.values() for name, row in rows.items()}
