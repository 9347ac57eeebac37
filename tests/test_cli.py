"""The command line: the recorded paths of the original tool, every option, every error."""

from __future__ import annotations

import json
import pathlib
import runpy
import shlex
import sys

import numpy as np
import pytest

import optax_adahessian as oah
from optax_adahessian._cli import build_parser, main

GOLDEN = pathlib.Path(__file__).parent / "golden"

# The four command lines of the original tool's README, in our words: golden case, function, options.
RECORDED = [
    ("e_quad_separable", "x**2+5*y**2", "--b1 0 --b2 0 --learning-rate 1"),
    ("e_quad_mixed", "x**2+5*y**2+x*y", "--b1 0 --b2 0 --learning-rate 0.5"),
    (
        "e_noisy_b0",
        "x**2+y**2+x*y+0.5*(sin(5*x)**2+sin(5*y)**2)",
        "--b1 0 --b2 0 --learning-rate 1 --start -2 -1 --steps 30",
    ),
    ("e_noisy_b09", "noisy-bowl", "--b1 0.9 --b2 0.9 --learning-rate 1 --start -2 -1 --steps 30"),
]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    main(argv)
    return capsys.readouterr().out


@pytest.mark.parametrize(("case", "function", "options"), RECORDED, ids=[case for case, _, _ in RECORDED])
def test_recorded_paths(case: str, function: str, options: str, tmp_path: pathlib.Path, capsys) -> None:
    with np.load(GOLDEN / f"{case}.npz") as file:
        points, losses, probes = file["p/v"], file["loss"], file["z/v"]
    np.save(tmp_path / "probes.npy", probes)
    output = run(capsys, "path", function, *options.split(), "--probes-from", str(tmp_path / "probes.npy"), "--json")
    (path,) = json.loads(output)["paths"]
    assert path["ended"] is None
    np.testing.assert_allclose(path["points"], points, rtol=0, atol=1e-9)
    np.testing.assert_allclose(path["losses"][:-1], losses, rtol=0, atol=1e-9)


def test_path_prints_a_table_and_draws(tmp_path: pathlib.Path, capsys) -> None:
    picture = tmp_path / "path.svg"
    command = "path quadratic --b1 0 --b2 0 --eps 0 --learning-rate 1 --steps 3 --probes 2 --against sgd:0.05 --save"
    lines = run(capsys, *command.split(), str(picture)).splitlines()
    assert lines[0].split() == ["optimizer", "steps", "x", "y", "f(x,", "y)"]
    assert lines[1].split() == ["adahessian", "3", "0", "0", "0"]
    # A step of 0.05 takes (x, y) to (0.9 x, 0.5 y): to (0.729, 0.125) in three.
    assert lines[2].split() == ["sgd", "3", "0.729", "0.125", "0.609566"]
    assert lines[3] == f"The picture is in {picture}."
    assert "<svg" in picture.read_text()


def test_hessian_power_and_seed_and_start(capsys) -> None:
    command = [
        "path",
        "x^2+x*y+5*y^2",
        "--b1",
        "0",
        "--b2",
        "0",
        "--eps",
        "0",
        "--learning-rate",
        "0.5",
        "--steps",
        "4",
        "--json",
    ]

    def points(*options: str) -> np.ndarray:
        return np.array(json.loads(run(capsys, *command, *options))["paths"][0]["points"])

    gradient_steps = points("--hessian-power", "0", "--start", "2", "0")
    np.testing.assert_allclose(gradient_steps[:2], [[2, 0], [2 - 0.5 * 4, 0 - 0.5 * 2]])
    assert not np.array_equal(points("--seed", "1"), points("--seed", "2"))


def test_path_ends_with_a_message_where_it_is_no_longer_finite(capsys) -> None:
    command = ["path", "x**4+y**2", "--start", "3", "1", "--steps", "50", "--against", "sgd:1"]
    assert "sgd: the path ends after step" in run(capsys, *command)
    output = run(capsys, *command, "--json")
    ours, sgd = json.loads(output, parse_constant=pytest.fail)["paths"]
    assert ours["ended"] is None
    assert sgd["ended"].endswith("of 50: the next point or its f is infinite or NaN")
    assert len(sgd["losses"]) < 51


def test_estimate(tmp_path: pathlib.Path, capsys) -> None:
    options = ["--at", "1", "2", "--max-probes", "8", "--repetitions", "50"]
    picture = tmp_path / "estimate.png"
    text = run(capsys, "estimate", "x**2*y + y**3", *options, "--save", str(picture))
    # H = [[2 y, 2 x], [2 x, 6 y]] = [[4, 2], [2, 12]]: rows of norm sqrt(20) and sqrt(148), error 2 / sqrt(n).
    assert "x              4" in text
    assert "y             12" in text
    assert "4.47214" in text
    assert "12.1655" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    report = json.loads(run(capsys, "estimate", "x**2*y + y**3", *options, "--json"))
    assert report["parameters"] == ["x", "y"]
    assert report["counts"] == [1, 4, 8]
    np.testing.assert_allclose(report["exact"], [4, 12], rtol=1e-14)
    np.testing.assert_allclose(report["predicted_error"], 2 / np.sqrt([1, 4, 8]), rtol=1e-14)
    np.testing.assert_allclose(report["gradient_of_product"], report["hz"], rtol=1e-14)


def test_estimate_of_the_network_agrees_with_theory(capsys) -> None:
    report = json.loads(run(capsys, "estimate", "--max-probes", "64", "--repetitions", "200", "--json"))
    assert report["parameters"][4:6] == ["b2", "w1[0, 0]"]
    report = {name: np.array(values) for name, values in report.items() if name != "function"}
    exact, row_norm, predicted = report["exact"], report["row_norm"], report["predicted_error"]
    assert len(report["parameters"]) == len(exact) == 21

    np.testing.assert_allclose(report["gradient_of_product"], report["hz"], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(report["counts"], [1, 4, 16, 64])
    np.testing.assert_allclose(predicted * np.sqrt(report["counts"]), predicted[0], rtol=1e-12)
    # An error is a root mean square over at least 200 groups. The entries of a group are correlated: they count as one,
    # and the relative deviation is sqrt(2 / 200) / 2 where errors are about normal.
    np.testing.assert_allclose(report["measured_error"], predicted, rtol=4 * np.sqrt(2 / 200) / 2)
    deviation = np.sqrt((row_norm**2 - exact**2) / 64)
    assert np.all(np.abs(report["estimate"] - exact) <= 5 * deviation)
    np.testing.assert_allclose(report["root_mean_square"], row_norm, rtol=5 * np.sqrt(2 / (64 * 200)))


REFUSED = {
    "": "the following arguments are required: command",
    "walk": "invalid choice: 'walk'",
    "path __import__(x)": "'__import__' is not known",
    "path network": "'network' is not known",
    "path x**2+10**10**10": "the exponent (=1e+10) must lie between -100 and 100",
    "path log(x) --start -1 1": "'log(x)' is infinite or NaN at the start (-1.0, 1.0). Choose another --start.",
    "path --start 1": "argument --start: expected 2 arguments",
    "path --start 1 a": "argument --start: invalid number value: 'a'",
    "path --start 1 nan": "argument --start: nan must be a finite number",
    "path --steps 0": "argument --steps: 0 must lie between 1 and 100000",
    "path --steps 1.5": "argument --steps: invalid integer value: '1.5'",
    "path --probes 0": "argument --probes: 0 must lie between 1 and 1000",
    "path --b1 1": "`b1` (=1.0) must lie in [0, 1)",
    "path --b2 -0.1": "`b2` (=-0.1) must lie in [0, 1)",
    "path --eps -1": "`eps` (=-1.0) must be finite and at least 0",
    "path --hessian-power 2": "`hessian_power` (=2.0) must lie in [0, 1]",
    "path --against adam,foo": "argument --against: 'foo' is not known; choose from adam, momentum,",
    "path --against adam:fast": "argument --against: the learning rate 'fast' of adam must be a number",
    "path --window 1 -1 0 1": "argument --window: LEFT must be less than RIGHT, and BOTTOM less than TOP",
    "path --save path.bmp": "argument --save: 'path.bmp' must end in .png, .svg or .pdf",
    "path --save no/such/path.png": "argument --save: the folder 'no/such' does not exist",
    "path --probes-from no.npy": "'no.npy' cannot be read as an array (.npy)",
    "path --probes 2 --probes-from p.npy": "not allowed with argument --probes",
    "path --lambda=2": "unrecognized arguments: --lambda=2",
    "estimate --at 1 1": "is for functions of x and y; the network's parameters are fixed",
    "estimate sqrt(x) --at 0 0": "The Hessian of sqrt(x) at (0.0, 0.0) is infinite or NaN there.",
    "estimate --max-probes 5000": "argument --max-probes: 5000 must lie between 1 and 1024",
}


@pytest.mark.parametrize(("command", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(command: str, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(command.split())
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("probes", "shape"),
    [(np.ones((3, 1, 2)), "(3, 1, 2)"), (np.ones((10, 2)), "(10, 2)"), (np.ones((10, 1, 3)), "(10, 1, 3)")],
)
def test_probes_of_another_shape_are_refused(probes, shape: str, tmp_path: pathlib.Path, capsys) -> None:
    np.save(tmp_path / "probes.npy", probes)
    with pytest.raises(SystemExit, match="2"):
        main(["path", "--probes-from", str(tmp_path / "probes.npy")])
    assert (
        f"(shape {shape}) must hold one array of shape (at least 10 steps, probes per step, 2)"
        in capsys.readouterr().err
    )


def test_the_package_runs_as_a_program(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["optax-adahessian", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("optax_adahessian", run_name="__main__")
    assert capsys.readouterr().out == f"optax-adahessian {oah.__version__}\n"


@pytest.mark.parametrize("command", ["path", "estimate"])
def test_help_has_examples_that_parse(command: str, capsys, tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    _, examples = capsys.readouterr().out.replace("\\\n", "").split("examples:")
    lines = [shlex.split(line) for line in examples.splitlines() if line.strip().startswith("optax-adahessian")]
    assert len(lines) == 3
    for program, *argv in lines:
        assert program == "optax-adahessian"
        assert build_parser().parse_args(argv).command == command
