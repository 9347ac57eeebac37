"""The benchmarks run in their smallest form; what they count is held, what they time is not."""

import functools
import json

import pytest

from benchmarks import timing
from benchmarks.cost import __main__ as cost
from benchmarks.cost import collectives

ESTIMATES = ["ours, interval 1", "ours, interval 10", "ours, no estimate"]
COMMANDS = {  # the function that a command line calls, and the arguments
    "steps": (cost.main, ["steps", "--models", "tiny", "--quick", "--rounds", "1", "--rows", *ESTIMATES]),
    "compile": (cost.main, ["compile", "--models", "leaves_2", "--rounds", "1", "--rows", "update*", "signs: ours"]),
    "large": (cost.main, ["large", "--models", "1e3", "1e15", "--rounds", "1", "--rows", "ours, no estimate"]),
    "memory": (cost.main, ["memory", "--models", "tiny", "--rows", "gradient alone", "1 probe", "ours, rows"]),
    "collectives": (cost.main, ["collectives", "--models", "net", "signs_16x8", "--rows", "plain*, no *", "signs*"]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command once, and returns its record and its table."""

    @functools.cache
    def run(command):
        main, arguments = COMMANDS[command]
        folder = tmp_path_factory.mktemp(command)
        main([*arguments, "--out", str(folder)])
        (record,), (table,) = folder.glob("*.jsonl"), folder.glob("*.md")
        return record, table

    return run


def measurements(record):
    """The lines of a record after the first."""
    return [json.loads(line) for line in record.read_text().splitlines()[1:]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_where_and_what_it_measured(command, run):
    record, table = run(command)
    assert json.loads(record.read_text().splitlines()[0])["machine"]["versions"]["jax"]
    assert measurements(record)
    for line in measurements(record):
        assert f"{line['row']} |" in table.read_text()


def test_an_earlier_record_is_drawn_again(run, tmp_path):
    record, table = run("steps")
    cost.main(["steps", "--from", str(record), "--out", str(tmp_path)])
    assert (tmp_path / table.name).read_text() == table.read_text()


def test_ratios_are_to_the_reference_before_and_after(monkeypatch):
    now = 0.0
    trained = []

    def subject(name, seconds, interval=1):
        def train(steps):
            nonlocal now
            trained.append((name, steps))
            now += steps * seconds * (1 + 1e-4 * now)  # at the end of the run everything is twice as slow

        return timing.Subject(train, interval, "adamw")

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    subjects = {"adamw": subject("adamw", 1.0), "ours": subject("ours", 3.0, interval=10)}
    times = timing.interleaved(subjects, timing.Plan(rounds=50, block_seconds=20.0))
    assert now > 5_000
    assert times["ours"].ratios == pytest.approx([3.0] * 50, rel=0.01)
    assert max(times["ours"].seconds) > 1.5 * min(times["ours"].seconds)
    assert {steps for name, steps in trained if name == "ours"} == {10}


def test_an_interval_costs_the_mean_of_its_steps(run):
    lines = {line["row"]: line for line in measurements(run("steps")[0])}
    every, tenth, never = (lines[row] for row in ESTIMATES)
    for cost_name in ("flops", "bytes_accessed"):
        assert tenth[cost_name] == pytest.approx((every[cost_name] + 9 * never[cost_name]) / 10)
    assert tenth["steps_per_block"] % 10 == 0
    assert tenth["temp_bytes"] == max(every["temp_bytes"], never["temp_bytes"])


def test_collectives_are_counted_with_their_bytes():
    text = """
      %a = (f32[16,32]{1,0}, bf16[]) all-reduce(%x, %y), replica_groups={}
      %b = f32[8]{0} all-reduce(%z)
      %c = f32[2,4]{1,0} reduce-scatter(%z), note="= f32[9] all-gather-like"
    """
    found = collectives.count(text)
    assert found["all-reduce"] == [2, 4 * 16 * 32 + 2 + 4 * 8]
    assert found["reduce-scatter"] == [1, 8 * 4 * 2 * 4]  # its result is one of eight parts
    assert found["all-gather"] == [0, 0]
