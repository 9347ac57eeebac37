"""The studies of the settings run in their smallest form; when they estimate and what they choose is derived here."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest
from micro_task import STEPS, micro_task

from benchmarks.quality.store import read
from benchmarks.quality.tasks import TASKS
from benchmarks.studies import __main__ as studies
from benchmarks.studies import jobs, search, table
from benchmarks.studies.registry import STUDIES, Study
from benchmarks.studies.settings import DEFAULTS, OPTIMIZER, STARTS


@pytest.mark.parametrize("name", STUDIES)
def test_the_optimizer_takes_all_settings_of_a_study(name):
    assert set(STUDIES[name].tasks) <= TASKS.keys()
    params = {"kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32)}
    for settings in STUDIES[name].settings():
        assert settings.keys() == DEFAULTS.keys()
        assert settings["start"] in STARTS
        theirs = {k: v for k, v in settings.items() if k not in ("start", "num_probes", "loss_scale")}
        jax.eval_shape(OPTIMIZER.make(learning_rate=0.1, **theirs).init, params)


def test_each_study_compares_different_settings_among_them_the_defaults():
    for study in STUDIES.values():
        settings = study.settings()
        assert all(a != b for i, a in enumerate(settings) for b in settings[:i])
        assert DEFAULTS in settings


def test_the_gap_between_estimates_grows():
    """By a step every ten, up to the interval: 1 until step 10, then 2 (12, 14, ...), 3 (20, 23, 26, 29), then 4."""
    due = [step for step in range(50) if STARTS["growing gap"](step, 4)]
    assert due == [*range(10), 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 36, 40, 44, 48]
    assert [step for step in range(25) if STARTS["at once"](step, 10)] == [0, 10, 20]
    assert [step for step in range(25) if STARTS["dense"](step, 10)] == [*range(10), 10, 20]


# The search


def made_up_outcome(losses, others=9.0):
    """The search of a run whose validation loss is that of its rate's place in the grid; None where it diverges."""
    at = {search.rate_at(i): loss for i, loss in losses.items()}

    def run(key):
        loss = at.get(key["settings"]["learning_rate"], others)
        return key | {"validation": loss, "test": loss}

    return search.search("micro", micro_task(), DEFAULTS, run)


def test_four_rates_span_two_decades():
    outcome = made_up_outcome({1: 2.0, 2: 1.0})
    assert list(outcome.validation) == [search.rate_at(i) for i in range(4)]
    assert search.rate_at(3) / search.rate_at(0) == pytest.approx(100)
    assert (outcome.rate, outcome.at_edge) == (search.rate_at(2), False)
    assert [(run["seed"], run["purpose"], run["test"]) for run in outcome.tests] == [(1, "test", 1.0), (2, "test", 1.0)]


@pytest.mark.parametrize(
    ("losses", "best", "tried", "at_edge"),
    [({0: 3.0, -1: 2.0}, -1, 6, False), ({3: 3.0, 4: 4.0}, 3, 5, False), ({3: 3.0, 4: 2.0, 5: 1.0}, 5, 6, True)],
)
def test_rates_beyond_an_edge_are_tried_while_they_are_better(losses, best, tried, at_edge):
    outcome = made_up_outcome(losses)
    assert (outcome.rate, len(outcome.validation), outcome.at_edge) == (search.rate_at(best), tried, at_edge)


def test_settings_that_always_diverge_say_so():
    outcome = made_up_outcome({}, others=None)
    assert all(math.isinf(loss) for loss in outcome.validation.values())
    study = Study({"bad": {}}, ("micro",))
    machine = {"versions": {}, "cores": 1, "processor": "one", "devices": ["cpu"], "load": 0.0, "commit": "abc"}
    text = table.tables(machine, study, {("bad", "micro"): outcome}, {"micro": micro_task()})
    assert "| bad | diverged |" in text
    assert "| bad | none of 6 |" in text


# The command


def test_the_command_writes_tables_and_goes_on(monkeypatch, tmp_path, capsys):
    micro = {"micro": micro_task()}
    small = Study(
        {"defaults": {}, "4 probes": {"num_probes": 4}, "tiny": {"loss_scale": 1e-3, "eps": 1e-8}}, ("micro",)
    )
    both = {"first": small, "second": Study({"defaults": {}, "growing": {"start": "growing gap"}}, ("micro",))}

    def here(work, given, processes):
        for job in given:
            reported = []
            work(job, reported.append)
            yield from reported

    for module in (studies, jobs):
        monkeypatch.setattr(module, "TASKS", micro)
    monkeypatch.setattr(studies, "STUDIES", both)
    monkeypatch.setattr(studies, "TABLES", tmp_path)
    monkeypatch.setattr(studies, "results", here)
    studies.main(["--out", str(tmp_path / "out"), "--publish"])
    file = tmp_path / "out" / "studies.jsonl"
    whole = read(file)
    settings = {tuple(run["settings"].items())[1:] for run in whole[1:]}
    assert len(settings) == 4  # the defaults run once
    assert {run["steps"] for run in whole[1:]} == {STEPS}
    # To rounding, the scale of the loss matters to eps alone, which is far below the curvature here.
    tests = {run["settings"]["loss_scale"]: run["test"] for run in whole[1:] if run["settings"]["num_probes"] == 1}
    assert tests[1e-3] == pytest.approx(tests[1.0], rel=1e-3)
    text = (tmp_path / "study_first.md").read_text()
    assert text.count("| 4 probes | ") == 2

    studies.main(["--report", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "study_first.md").read_text() == text

    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:8]) + lines[8][:20])
    studies.main(["first", "--out", str(tmp_path / "out")])
    assert read(file) == [record for record in whole if record.get("settings", {}).get("start") != "growing gap"]
    with pytest.raises(SystemExit):
        studies.main(["third", "--out", str(tmp_path)])
    assert "no study is called third" in capsys.readouterr().err
