"""The benchmarks run in their smallest form; what they count is held, what they time is not."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah
from benchmarks import command_line, pages, programs, timing
from benchmarks.cost import __main__ as cost
from benchmarks.fits import __main__ as fits
from benchmarks.train import __main__ as train
from benchmarks.train import jobs, tasks, training
from benchmarks.train.optimizers import BASELINE, OURS, ROWS

ESTIMATES = ["ours, interval 1", "ours, interval 10", "ours, no estimate"]
COMMANDS = {  # the function that a command line calls, and the arguments
    "steps": (cost.main, ["steps", "--models", "tiny", "--quick", "--rounds", "1", "--rows", *ESTIMATES]),
    "compile": (cost.main, ["compile", "--models", "leaves_2", "--rounds", "1", "--rows", "update*", "signs: ours"]),
    "large": (cost.main, ["large", "--models", "1e3", "1e15", "--rounds", "1", "--rows", "ours, no estimate"]),
    "memory": (cost.main, ["memory", "--models", "tiny", "--rows", "gradient alone", "1 probe", "ours, rows"]),
    "collectives": (cost.main, ["collectives", "--models", "net", "signs_16x8", "--rows", "plain*, no *", "signs*"]),
}
PUBLISHED = {f"cost_{command}": (cost.main, [command]) for command in cost.COMMANDS}
PUBLISHED |= {"train": (train.main, []), "fits": (fits.main, [])}


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


@pytest.mark.parametrize("record", PUBLISHED)
def test_the_pages_have_the_tables_of_the_records(record, tmp_path):
    main, arguments = PUBLISHED[record]
    main([*arguments, "--from", str(command_line.ROOT / f"benchmarks/records/{record}.jsonl"), "--out", str(tmp_path)])
    tables = {table.stem: table.read_text() for table in tmp_path.glob("*.md")}
    texts = [page.read_text() for page in pages.DOCS.rglob("*.md")]
    assert tables.keys() <= {name for text in texts for name, _ in pages.MARKED.findall(text)}
    assert [pages.with_tables(text, tables) for text in texts] == texts


def test_ratios_are_to_the_reference_before_and_after(monkeypatch):
    now = 0.0
    trained = []

    def subject(name, seconds, interval=1):
        def train(steps):
            nonlocal now
            trained.append((name, steps))
            now += steps * seconds * (1 + 1e-4 * now)  # at the end of the run everything is twice as slow

        return timing.Subject(timing.by_the_clock(train), interval, "adamw")

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


def test_collectives_are_counted_with_their_bytes_and_rounds():
    text = """
%body (p: f32[8]) -> f32[8] {
  %b = f32[8]{0} all-reduce(%z)
  %c = (f32[4]{0}, f32[8]{0}) all-gather-start(%z), note="= f32[9] all-to-all-like"
}

%condition (p: s32[]) -> pred[] {
  %bound = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (p: f32[16,32]) -> f32[8] {
  %a = (f32[16,32]{1,0}, bf16[]) all-reduce(%x, %y), replica_groups={}
  %d = f32[2,4]{1,0} reduce-scatter(%z)
  ROOT %w = f32[8] while(%t), condition=%condition, body=%body
}
"""
    found = programs.collectives(text, devices=8)
    assert found["all-reduce"] == [1 + 5, 4 * 16 * 32 + 2 + 5 * 4 * 8]
    assert found["all-gather"] == [5, 5 * 4 * 8]  # what it starts with does not count
    assert found["reduce-scatter"] == [1, 8 * 4 * 2 * 4]  # its result is one of eight parts
    assert found["all-to-all"] == [0, 0]


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_are_a_convolution(stride):
    x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 8, 8, 3), (3, 3, 3, 5)]))
    dimensions = ("NHWC", "HWIO", "NHWC")
    true = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)
    np.testing.assert_allclose(tasks.convolution(x, kernel, stride), true, atol=1e-5)


def test_a_compiled_run_is_the_loop_of_the_documentation():
    x = np.random.default_rng(0).normal(size=(100, 10)).astype(np.float32)
    data = tasks._table(16, x, x @ np.linspace(-0.3, 0.3, 10, dtype=np.float32))
    task = tasks._dense_net("Micro", "squared error", (10, 4, 1), jnp.tanh, **data, steps=23, seeds=2)
    data, _, test = task.parts(3)
    estimate = oah.value_grad_and_hessian_diag(task.loss_fn)

    def transformation(t):
        rate, kernels = training.rate_at(t, 0.3, 23), functools.partial(jax.tree.map, lambda p: p.ndim > 1)
        rule = oah.adahessian(rate, b1=0, b2=0.98, eps=1e-8, weight_decay=0.03 / 0.3, mask=kernels)
        return optax.chain(oah.adaptive_nesterov(), rule, optax.clip(0.1))

    @jax.jit
    def step(params, state, key, batch, t):
        _, grads, diag = estimate(key, params, batch)
        updates, state = transformation(t).update(grads, state, params, hessian_diag=diag)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, task.init(np.random.default_rng(3)))
    state = transformation(0).init(params)
    for t in range(23):
        batch_key, key = jax.random.split(jax.random.fold_in(jax.random.key(3), t))
        batch = task.batch_at(batch_key, jax.tree.map(jnp.asarray, data))
        due = oah.refresh_due(t, 4, training.DENSE_START)
        params, state = step(params, state, key if due else None, batch, t)
    trainer = training.Trainer(task, ROWS[OURS]._replace(interval=4))
    settings = {"learning_rate": 0.3, "b2": 0.98, "eps": 1e-8, "clip": 0.1, "decay": 0.03}
    run = trainer.train(settings, seed=3, steps=23)
    assert run["test"] == pytest.approx(float(task.loss_fn(params, test)), rel=1e-4)


def test_an_earlier_comparison_is_drawn_again_but_for_a_torn_line(tmp_path):
    machine = {"cores": 2, "processor": "none", "load": 0.0, "commit": "0", "versions": {"jax": "1", "optax": "1"}}
    records = [{"kind": "machine", "quick": True, **machine}]
    for row in (BASELINE, OURS):
        timed = {"step_seconds": 1e-3, "ratio": 1.0, "quartiles": [1.0, 1.0], "compile_seconds": 1.0}
        records.append({"kind": "seconds", "task": "relu", "row": row, **timed})
    for job in jobs.plan(["relu"], [BASELINE, OURS], records, train.QUICK_SHARE):

        def run(settings, seed, steps, job=job):
            loss = 1.0 if job.row == BASELINE else 0.5
            made = {"settings": settings, "seed": seed, "steps": steps, "validation": loss, "test": loss}
            records.append({"kind": "run", "task": job.task, "row": job.row, **made})
            return made

        job.result({}, run)
    file = tmp_path / "runs.jsonl"
    file.write_text("\n".join(map(json.dumps, records)) + '\n{"kind": "run", "ta')
    train.main(["--from", str(file), "--tasks", "relu", "--rows", OURS, "--out", str(tmp_path)])
    assert "| -50.0% ± 0.0 |" in (tmp_path / "train_summary.md").read_text()
