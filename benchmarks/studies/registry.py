"""The studies: what is asked, which settings are compared, and on which tasks."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.quality.optimizers import Settings
from benchmarks.studies.settings import DEFAULTS, PAPER

MLP, AUTOENCODER, TRANSFORMER, CANCER, POISSON = "mlp", "autoencoder", "transformer", "cancer", "poisson"
ALL = (MLP, AUTOENCODER, TRANSFORMER, CANCER, POISSON)


class Study(NamedTuple):
    """Rows of a table, each by its label with what it changes of the defaults."""

    rows: dict[str, Settings]
    tasks: tuple[str, ...]

    def settings(self) -> list[Settings]:
        """The whole settings of each row, all but the learning rate."""
        return [DEFAULTS | change for change in self.rows.values()]


def _both(rows: dict[str, Settings], other: Settings, label: str) -> dict[str, Settings]:
    """The rows with the defaults otherwise, then with the `other` settings."""
    return rows | {f"{label}, {name}": other | change for name, change in rows.items()}


_INTERVALS: dict[str, Settings] = {
    "every step": {"update_interval": 1},
    **{
        f"every {interval}, {name}": {"update_interval": interval, "start": start}
        for interval in (10, 50)
        for start, name in (("dense", "dense start"), ("at once", "none"), ("growing gap", "growing gap"))
    },
}
_DECAYS: dict[str, Settings] = {f"b2 {b2}": {"b2": b2} for b2 in (0.95, 0.98, 0.99, 0.995, 0.999)}
_BOUND: Settings = {"eps": 1e-12, "max_step": 0.004, "start": "at once"}
_MOMENTA = [(name, b1) for name in ("Nesterov", "constant") for b1 in (0.9, 0.95, 0.98, 0.99)]
_EPS: dict[str, Settings] = {
    f"eps {eps}, loss times {scale:g}": {"eps": float(eps), "loss_scale": scale}
    for scale in (1.0, 1e-3)
    for eps in ("1e-12", "1e-8", "1e-4", "1e-2")
}

STUDIES: dict[str, Study] = {
    "rule": Study(
        {
            'the paper\'s: "rms", eps 1e-4': PAPER,
            '"rms", eps 1e-12': PAPER | {"eps": 1e-12},
            '"rms", max_step 0.004': PAPER | _BOUND,
            '"mean"': PAPER | {"eps": 1e-12, "time_average": "mean"},
            '"mean", max_step 0.004': PAPER | _BOUND | {"time_average": "mean"},
            '"mean", max_step 0.004, Nesterov': {},
            '"mean", max_step 0.002, Nesterov': {"max_step": 0.002},
            '"mean", max_step 0.01, Nesterov': {"max_step": 0.01},
        },
        ALL,
    ),
    "momentum": Study({f"{name}, b1 {b1:g}": {"nesterov": name == "Nesterov", "b1": b1} for name, b1 in _MOMENTA}, ALL),
    "b2": Study(_both(_DECAYS, {"time_average": "rms"}, '"rms"'), (MLP, AUTOENCODER)),
    "interval": Study(_both(_INTERVALS, PAPER, "the paper's rule"), (MLP, AUTOENCODER)),
    "eps": Study(_both(_EPS, PAPER, "the paper's rule"), (MLP,)),
    "averaging": Study(
        {
            **{name: {"spatial_average": name} for name in ("none", "rows", "lengths(8)")},
            **{
                f"the paper's rule, {name}": PAPER | {"spatial_average": name}
                for name in ("none", "rows", "rows, signed", "lengths(8)", "lengths(8), signed")
            },
        },
        (MLP, AUTOENCODER),
    ),
    "probes": Study(
        _both({f"{n} probe{'s' * (n > 1)}": {"num_probes": n} for n in (1, 4)}, {"time_average": "rms"}, '"rms"'),
        (MLP, AUTOENCODER, CANCER, POISSON),
    ),
    "hessian_power": Study(
        {f"hessian_power {k:g}": {"hessian_power": k} for k in (0.5, 1.0)}, (MLP, AUTOENCODER, CANCER)
    ),
}
