"""The examples: their command lines, that each runs, and what it promises of itself."""

import importlib
import logging
import re
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from helpers import ways
from matplotlib import pyplot as plt

import optax_adahessian as oah
from examples import char_transformer, digits, digits_cnn, multi_process, sleep_study
from examples.gradient_accumulation import accumulate

ROOT = Path(__file__).parents[2]
STEPS = 60
EXAMPLES = ("char_transformer", "checkpoint", "digits_cnn", "gradient_accumulation", "multi_process", "sleep_study")
COUNTS = [(name, "--steps") for name in EXAMPLES] + [("multi_process", "--processes"), ("cifar10_resnet20", "--epochs")]


def run(*arguments):
    """The lines that a program prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def main_of(name, monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", [name, *argv])
    return importlib.import_module(f"examples.{name}").main()


@pytest.mark.parametrize("value", ["0", "-3", "many"])
@pytest.mark.parametrize(("name", "flag"), COUNTS)
def test_a_count_below_1_is_an_error_with_status_2(name, flag, value, monkeypatch, capsys):
    with pytest.raises(SystemExit) as error:
        main_of(name, monkeypatch, flag, value)
    assert error.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    what = "invalid positive_int value: 'many'" if value == "many" else f"{value} is not an integer of at least 1"
    assert line.endswith(f"error: argument {flag}: {what}")


def test_a_run_too_short_to_be_killed_in_between_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main_of("checkpoint", monkeypatch, "--steps", "13", "--every", "7")
    assert "--steps (=13) must be at least twice --every (=7)" in capsys.readouterr().err


@pytest.mark.long
def test_the_demo_compares_both_optimizers_and_draws_their_losses(tmp_path, monkeypatch, capsys, caplog):
    picture, bar = tmp_path / "curves.png", digits_cnn.tqdm

    def logged_bar(*args, **kwargs):
        logging.getLogger("jax").warning("a progress bar")
        return bar(*args, **kwargs, disable=True)

    monkeypatch.setattr(digits_cnn, "tqdm", logged_bar)
    with jax.log_compiles():
        # Twelve steps: the last, after the dense start, is without an estimate.
        digits_cnn.main(["--steps", "12", "--picture", str(picture)])
    rows = re.findall(r"^(AdaHessian|AdamW) +(\d+\.\d)% +\d\.\d{4} ", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in rows] == ["AdaHessian", "AdamW"]
    assert all(float(accuracy) > 50 for _, accuracy in rows)
    assert plt.imread(picture).shape[2] == 4
    # Two programs before the first bar, one before the second, none after a bar has begun.
    logged = re.findall(r"Finished XLA compilation of jit\(step\)|a progress bar", "\n".join(caplog.messages))
    assert [message == "a progress bar" for message in logged] == [False, False, True, False, True]


@pytest.mark.long
def test_checkpoint_is_killed_and_resumes_bit_for_bit():
    (line,) = run("examples/checkpoint.py", "--steps", 200)
    killed_after = int(re.match(r"killed after the checkpoint of step (\d+), resumed to step 200: bit", line)[1])
    assert 100 <= killed_after < 200


def test_scan_accumulates_value_gradient_and_diagonal_with_fresh_probes():
    key, params, batch = jax.random.key(0), ways.initial_params(), ways.batch_at(0)
    estimate = oah.value_grad_and_hessian_diag(ways.loss_fn)
    micro_batches = jax.tree.map(lambda a: a.reshape(4, -1, *a.shape[1:]), batch)
    got = jax.jit(lambda params: accumulate(estimate, key, params, micro_batches))(params)

    jitted = jax.jit(estimate)
    diags = [
        jitted(jax.random.fold_in(key, i), params, jax.tree.map(lambda a, i=i: a[i], micro_batches))[2]
        for i in range(4)
    ]
    expected = *jax.value_and_grad(ways.loss_fn)(params, batch), jax.tree.map(lambda *h: sum(h) / 4, *diags)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_gradient_accumulation_runs():
    (line,) = run("examples/gradient_accumulation.py", "--steps", 30)
    assert line.startswith("30 steps of 8 micro-batches with 32 rows: loss ")


def trained(dtype):
    """``(validation loss, parameters, state)`` of a small model after a short run, an estimate at every step."""
    train_tokens, validation_tokens, vocabulary = char_transformer.load()
    model = char_transformer.Transformer(vocabulary, width=16, layers=1, heads=2, dtype=dtype, param_dtype=dtype)
    params = jax.jit(model.init)(jax.random.key(0), train_tokens[None, : char_transformer.CONTEXT])
    loss_fn, tx = char_transformer.make_loss(model), char_transformer.partitioned(STEPS)
    params, state = char_transformer.train(loss_fn, tx, params, train_tokens, STEPS, batch_size=4, update_interval=1)
    return char_transformer.evaluate(loss_fn, params, validation_tokens[:4097]), params, state


@pytest.mark.long
def test_the_sleep_study_finds_the_means_in_milliseconds_where_adam_does_not(capsys):
    with jax.numpy_rank_promotion("allow"):  # as NumPyro has it
        sleep_study.main(["--people", "20", "--steps", "300", "--rates", "1", "--adam", "0.01"])
    rows = re.findall(r"^(\w+), \S+ +loss +(\S+) +mean (\S+), mean_slope (\S+),", capsys.readouterr().out, re.MULTILINE)
    found = {name: [float(number.replace(",", "")) for number in numbers] for name, *numbers in rows}
    reactions = sleep_study.simulate(20)
    slope, level = np.polyfit(sleep_study.DAYS, reactions.mean(axis=0), 1)
    assert found["AdaHessian"][1:] == pytest.approx([level, slope], rel=0.1)
    assert found["Adam"][0] > found["AdaHessian"][0]
    assert abs(found["Adam"][1] - level) > 30


@pytest.mark.long
def test_char_transformer_all_in_bfloat16_ends_within_3_percent_of_the_float32_run():
    expected, _, _ = trained("float32")
    loss, params, state = trained("bfloat16")
    assert expected < 3.6  # of 4.6 for equally likely characters: there is something to compare
    assert loss != expected
    np.testing.assert_allclose(loss, expected, rtol=0.03)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"bfloat16"}
    ours = optax.tree.get(state, "ScaleByAdaHessianState")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(ours.nu)} == {"float32"}
    assert ours.count == STEPS


@pytest.mark.long
def test_char_transformer_runs(capsys):
    # Twelve steps: the last, after the dense start, is without an estimate.
    char_transformer.main(["--steps", "12", "--width", "8", "--layers", "1"])
    line = r"12 steps, activations in float32, parameters in float32: validation loss \d\.\d{4} per character\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def run_multi_process(checkpoints, *flags, entry=("-m", "examples.multi_process")):
    return run(*entry, "--steps", STEPS, "--checkpoint-every", 20, "--checkpoints", checkpoints, *flags)


def saved_params(checkpoints):
    params = digits.init_params(jax.random.key(0))
    like = params, multi_process.optimizer(STEPS).init(params)
    with ocp.CheckpointManager(checkpoints) as manager:
        assert manager.latest_step() == STEPS
        return jax.tree.leaves(manager.restore(STEPS, args=ocp.args.StandardRestore(like))[0])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("two_processes")
    return checkpoints, run_multi_process(checkpoints, "--processes", 2, "--devices", 2)


@pytest.mark.long
def test_multi_process_with_two_ends_with_the_same_parameters_as_one(two_processes, tmp_path):
    checkpoints, lines = two_processes
    script = (str(ROOT / "examples" / "multi_process.py"),)
    alone = run_multi_process(tmp_path, "--processes", 1, "--devices", 4, entry=script)
    assert lines[-1].startswith("2 processes, 4 devices: ")
    assert alone[-1].startswith("1 processes, 4 devices: ")
    assert "all ended with the same parameters" in lines[-1]
    for a, b in zip(saved_params(checkpoints), saved_params(tmp_path), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.long
def test_multi_process_survives_the_loss_of_a_process(two_processes, tmp_path):
    lines = run_multi_process(tmp_path, "--processes", 2, "--devices", 2, "--fail-at", 50)
    assert any("starting all of them again from the last checkpoint" in line for line in lines)
    assert lines[-1] == two_processes[1][-1]  # the fingerprint of all bits of the parameters, too
