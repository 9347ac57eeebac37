"""The comparison of optimizers in its smallest form: its loop, its search and its arithmetic are derived here."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah
from benchmarks.train import __main__ as command
from benchmarks.train import search, tasks, training
from benchmarks.train.optimizers import OURS, ROWS, STUDY_ROWS

STEPS = 23


@pytest.fixture(scope="module")
def micro():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 10)).astype(np.float32)
    y = x @ np.linspace(-0.3, 0.3, 10, dtype=np.float32)
    data = tasks._table(16, x, y)
    return tasks._dense_net("Micro", "squared error", (10, 4, 1), jnp.tanh, **data, steps=STEPS, seeds=2)


def by_hand(task, settings, interval, dense_start):
    """The recommended call in the loop that the documentation shows."""
    train, _, test = task.parts(3)
    estimate = oah.value_grad_and_hessian_diag(task.loss_fn)

    def transformation(t):
        rate = training.rate_at(t, settings["learning_rate"], STEPS)
        return optax.chain(oah.adahessian(rate, b2=settings["b2"], eps=settings["eps"]), optax.clip(settings["clip"]))

    @jax.jit
    def step(params, state, key, batch, t):
        _, grads, diag = estimate(key, params, batch)
        updates, state = transformation(t).update(grads, state, params, hessian_diag=diag)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, task.init(np.random.default_rng(3)))
    state = transformation(0).init(params)
    for t in range(STEPS):
        batch_key, key = jax.random.split(jax.random.fold_in(jax.random.key(3), t))
        batch = task.batch_at(batch_key, jax.tree.map(jnp.asarray, train))
        params, state = step(params, state, key if oah.refresh_due(t, interval, dense_start) else None, batch, t)
    return float(task.loss_fn(params, test))


def test_a_run_is_the_loop_of_the_documentation(micro):
    settings = ROWS[OURS].numbers | {"learning_rate": 0.3, "clip": 0.1}
    run = training.Trainer(micro, ROWS[OURS]._replace(interval=4)).train(settings, seed=3, steps=STEPS)
    assert run["test"] == pytest.approx(by_hand(micro, settings, 4, training.DENSE_START), rel=1e-4)
    assert run["test"] != pytest.approx(by_hand(micro, settings, 4, 0), rel=1e-2)  # so the schedule shows


@pytest.mark.parametrize("name", [*ROWS, *STUDY_ROWS])
def test_every_row_makes_a_step_with_its_numbers(name, micro):
    row = (ROWS | STUDY_ROWS)[name]
    program = training.make_program(micro, row)
    train, _, _ = micro.parts(0)
    numbers = jax.tree.map(jnp.float32, row.numbers | {"learning_rate": row.rate})
    out = jax.eval_shape(program, micro.init(np.random.default_rng(0)), train, jax.random.key(0), numbers, 3, 1)
    assert jax.tree.structure(out) == jax.tree.structure(micro.init(np.random.default_rng(0)))


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_are_a_convolution(stride):
    x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 8, 8, 3), (3, 3, 3, 5)]))
    dimensions = ("NHWC", "HWIO", "NHWC")
    true = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)
    np.testing.assert_allclose(tasks.convolution(x, kernel, stride), true, atol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_tries_twelve_settings_and_is_chosen_on_validation(name):
    """The best rate is that of the start times 1.4, by the validation part alone; the test part prefers low rates."""
    best_rate = ROWS[name].rate * 1.4

    def train(settings, seed, steps):
        off = abs(math.log(settings["learning_rate"] / best_rate))
        return {"validation": off, "test": settings["learning_rate"], "start": 1.0, "seed": seed, "steps": steps}

    result = search.compare(ROWS[name], train, (range(2), range(1000, 1003)), 50, 70)
    tried = {json.dumps(trial.settings, sort_keys=True) for trial in result.tuning}
    assert len(tried) == len(result.tuning) == 12
    offs = {trial.mean("validation") for trial in result.tuning}
    assert result.final.mean("validation") == min(offs)
    assert [run["seed"] for run in result.final.runs] == [1000, 1001, 1002]
    assert {run["steps"] for run in result.final.runs} == {50}
    assert [(run["seed"], run["steps"]) for run in result.equal_steps.runs] == [(1000, 70)]  # half of the seeds


def trial(rate, *losses, start=10.0):
    return search.Trial({"learning_rate": rate}, [{"validation": x, "test": x, "start": start} for x in losses])


def test_the_noise_of_a_ratio_is_that_of_its_pairs():
    assert search.ratio(trial(1, 2.0, 4.0), trial(1, 1.0, 2.0)) == pytest.approx((2.0, 0.0))  # twice, in each pair
    value, error = search.ratio(trial(1, 4.0, 2.0), trial(1, 1.0, 2.0))
    # The rests 4 - 2 and 2 - 4 have a standard deviation of 2 sqrt(2), so their mean one of 2, over a loss of 1.5.
    assert (value, error) == pytest.approx((2.0, 2 / 1.5))
    assert search.ratio(trial(1, None, 2.0), trial(1, 1.0, 2.0))[0] == math.inf


def test_divergence_is_from_a_rate_on():
    """A single rate that diverges below one that does not is no limit; ending above the start is divergence."""
    trials = [trial(0.1, None), trial(0.2, 1.0), trial(0.3, 1.0, 11.0), trial(0.4, None)]
    assert search.lowest_diverging(trials) == 0.3
    assert search.lowest_diverging(trials[:2]) is None


# The command


def test_the_command_goes_on_after_a_torn_line_and_draws_earlier_runs(tmp_path, capsys):
    arguments = ["--quick", "--tasks", "cancer", "--rows", OURS, "--processes", "1", "--out", str(tmp_path)]
    command.main(arguments)
    file, whole = tmp_path / "train_quick.jsonl", command.read(tmp_path / "train_quick.jsonl")
    kinds = [record["kind"] for record in whole]
    assert (kinds[0], kinds.count("seconds")) == ("machine", 2)  # AdamW is always there
    assert sum(record["kind"] == "run" and record["row"] == OURS for record in whole) >= 12 * 2
    assert f"{OURS} |" in (tmp_path / "train_quick_summary.md").read_text()

    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-5]) + lines[-5][:-20])
    command.main(arguments)
    again = command.read(file)
    timed = {"seconds"}  # which differ from run to run
    assert [{k: v for k, v in r.items() if k not in timed} for r in again] == [
        {k: v for k, v in r.items() if k not in timed} for r in whole
    ]

    command.main(["--from", str(file), "--out", str(tmp_path / "again")])
    for name in ("train_summary.md", "train_details.md"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / name.replace("_", "_quick_", 1)).read_text()
    assert "A quick run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes", "0"], "must be at least 1"),
        (["--from", "/nowhere.jsonl"], "is not a file with a finished run"),
        (["--quick", "--publish"], "leave out --quick"),
        (["--tasks", "mnist"], "invalid choice: 'mnist'"),
    ],
)
def test_bad_input_is_named(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        command.main([*arguments, "--out", str(tmp_path)])
    assert error.value.code == 2
    assert words in capsys.readouterr().err
