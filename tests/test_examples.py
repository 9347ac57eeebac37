"""What all examples have in common, and the demo."""

import importlib
import logging
import re

import jax
import pytest
from matplotlib import pyplot as plt

EXAMPLES = ("char_transformer", "checkpoint", "digits_cnn", "gradient_accumulation", "multi_process")
COUNTS = [(name, "--steps") for name in EXAMPLES] + [("multi_process", "--processes"), ("cifar10_resnet20", "--epochs")]


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


def run_and_log(name, monkeypatch, caplog, *argv):
    """Runs an example; returns the names of what was compiled, with None where a progress bar began."""
    module = importlib.import_module(f"examples.{name}")
    bar = module.tqdm

    def logged_bar(*args, **kwargs):
        logging.getLogger("jax").warning("a progress bar")
        return bar(*args, **kwargs, disable=True)

    monkeypatch.setattr(module, "tqdm", logged_bar)
    with jax.log_compiles():
        module.main(list(argv))
    finished = re.compile(r"Finished XLA compilation of jit\((\w+)\)")
    found = [finished.match(message) or message == "a progress bar" for message in caplog.messages]
    return [None if match is True else match[1] for match in found if match]


@pytest.mark.long
def test_the_demo_compares_both_optimizers_and_draws_their_losses(tmp_path, monkeypatch, capsys, caplog):
    picture = tmp_path / "curves.png"
    # Twelve steps: the last, after the dense start, is without an estimate.
    compiled = run_and_log("digits_cnn", monkeypatch, caplog, "--steps", "12", "--picture", str(picture))
    rows = re.findall(r"^(AdaHessian|AdamW) +(\d+\.\d)% +\d\.\d{4} ", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in rows] == ["AdaHessian", "AdamW"]
    assert all(float(accuracy) > 50 for _, accuracy in rows)
    assert plt.imread(picture).shape[2] == 4
    # Two programs before the first bar, one before the second, none after a bar has begun.
    assert [entry for entry in compiled if entry in ("step", None)] == ["step", "step", None, "step", None]
