"""The benchmarks run in their smallest form; what they count is held, what they time is not."""

from __future__ import annotations

import json

import jax
import pytest

from benchmarks import machine, report, timing
from benchmarks.cost import __main__ as cost
from benchmarks.cost import peers
from benchmarks.cost.problems import PROBLEMS
from benchmarks.memory import __main__ as memory
from benchmarks.memory import states
from benchmarks.models import Problem
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import measure as scaling_measure

PEERS = {"somax": "python-somax", "torch": "torch", **peers.TORCH_PACKAGES}


@pytest.fixture(autouse=True)
def without_peers(monkeypatch):
    find = peers.importlib.util.find_spec
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None if name in PEERS else find(name))


class Machine:
    """A clock that training advances: each step takes its subject's seconds, times the drift of the moment."""

    def __init__(self, monkeypatch, drift=0.0):
        self.now, self.drift, self.trained = 0.0, drift, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def subject(self, name, seconds, interval=1, reference="adamw"):
        def train(steps):
            self.trained.append((name, steps))
            self.now += steps * seconds * (1 + self.drift * self.now)

        return timing.Subject(train, interval, reference)


def test_ratios_are_to_the_reference_before_and_after(monkeypatch):
    computer = Machine(monkeypatch, drift=1e-4)  # at the end of the run everything is twice as slow
    subjects = {"adamw": computer.subject("adamw", 1.0), "ours": computer.subject("ours", 3.0, interval=10)}
    times = timing.interleaved(subjects, timing.Plan(rounds=50, block_seconds=20.0, row_seconds=1e9))
    assert computer.now > 5_000
    assert times["ours"].ratios == pytest.approx(3.0, rel=0.01)
    assert times["ours"].seconds.max() > 1.5 * times["ours"].seconds.min()


def test_blocks_are_whole_intervals_and_slow_rows_sit_out_rounds(monkeypatch):
    computer = Machine(monkeypatch)
    subjects = {
        "adamw": computer.subject("adamw", 1.0),
        "ours": computer.subject("ours", 1.2, interval=10),
        "slow": computer.subject("slow", 30.0, interval=10),
    }
    times = timing.interleaved(subjects, timing.Plan(rounds=8, block_seconds=15.0, row_seconds=200.0))
    assert {steps for name, steps in computer.trained[3:] if name == "ours"} == {20}
    assert {name: len(t.ratios) for name, t in times.items()} == {"adamw": 8, "ours": 8, "slow": timing.MIN_ROUNDS}
    assert times["slow"].ratios == pytest.approx(30.0)


@pytest.fixture(scope="module")
def cost_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "installed", lambda module, package, say: say(peers._skipped(module, package)))
        rows = ["ours, interval 10", "ours, a step*"]
        cost.main(["--models", "tiny", "--quick", "--rounds", "1", "--rows", *rows, "--out", str(folder)])
    return folder


def test_cost_writes_every_row_that_was_asked_for(cost_folder):
    measured = json.loads((cost_folder / "cost.json").read_text())["models"]["tiny"]
    assert list(measured["rows"]) == ["optax.adamw", "ours, interval 10", "ours, a step without an estimate"]
    adamw, ours = measured["rows"]["optax.adamw"], measured["rows"]["ours, interval 10"]
    assert adamw["flops_ratio"] == 1
    assert ours["steps_per_round"] % 10 == 0
    # Momentum and second moment, and a few counters beside the 330 parameters.
    assert ours["state_per_parameter"] == pytest.approx(2, abs=0.03)
    for name, package in PEERS.items():
        assert sum(f"rows of {name}, since {package} is not installed" in line for line in measured["skipped"]) == 1


def test_an_earlier_run_is_drawn_again(cost_folder, tmp_path):
    cost.main(["--from", str(cost_folder / "cost.json"), "--out", str(tmp_path)])
    assert (tmp_path / "cost.md").read_text() == (cost_folder / "cost.md").read_text()
    for name in cost.PICTURES:
        assert (tmp_path / name).read_bytes() == (cost_folder / name).read_bytes()


@pytest.mark.parametrize("model", ["resnet20", "transformer"])
def test_states_in_units_of_the_parameters(model):
    params, skipped = jax.eval_shape(lambda: PROBLEMS[model]().params), []
    sizes = states.in_parameters(Problem(None, params, None), model, skipped.append)
    assert sizes["ours, none"] == pytest.approx(2, abs=1e-3)
    assert sizes["ours, none"] - sizes["optax.adamw"] < 1e-3
    assert sizes["ours, rows"] <= 1.15
    assert len(skipped) == len(PEERS)


def test_a_loop_over_probes_takes_no_more_memory_than_all_of_them(tmp_path):
    memory.main(["--models", "tiny", "--states", "tiny", "--probes", "3", "--out", str(tmp_path)])
    ways = json.loads((tmp_path / "memory.json").read_text())["temporary"]["tiny"]
    assert ways["loop"]["3"]["temp_bytes"] < ways["unrolled"]["3"]["temp_bytes"]
    assert ways["unrolled"]["3"]["gradients"] > 7  # a gradient, and two for each probe


def test_scaling_measures_what_fits_into_memory(capsys, monkeypatch):
    rows = ("optax.adamw", "ours, a step without an estimate")
    monkeypatch.setattr(scaling_measure, "ROWS", rows)
    monkeypatch.setattr(scaling, "ROWS", rows)
    points = scaling_measure.against_parameters([50, 1e15], timing.Plan(rounds=1, block_seconds=0, row_seconds=0))
    assert [point["batch_size"] for point in points] == [64]
    assert "skipped: 1e+15 parameters" in capsys.readouterr().out
    record = report.with_machine(parameters=points, batch_size=points)
    assert all(name in scaling.tables(record) for name in rows)
    assert all(ax.get_xlabel() for ax in scaling.picture(record).axes)


def test_a_record_says_where_it_was_made():
    where = machine.describe()
    assert where["cores"] >= 1
    assert where["versions"]["jax"] in report.setting({"machine": where})
