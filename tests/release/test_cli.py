"""The command line: the recorded paths of the original tool, every option, every error, every way to end it."""

import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import optax_adahessian as oah
from optax_adahessian._cli import main
from optax_adahessian.analysis.arguments import parse

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
PROGRAM = [sys.executable, "-m", "optax_adahessian"]


def run(capsys: pytest.CaptureFixture[str], command: str, *more: object) -> str:
    main([*command.split(), *map(str, more)])
    return capsys.readouterr().out


# The four command lines of the original tool's README, in our words.
RECORDED = {
    "e_quad_separable": "x**2+5*y**2 --b1 0 --b2 0",
    "e_quad_mixed": "x**2+5*y**2+x*y --b1 0 --b2 0 --learning-rate 0.5",
    "e_noisy_b0": "x**2+y**2+x*y+0.5*(sin(5*x)**2+sin(5*y)**2) --b1 0 --b2 0 --start -2 -1 --steps 30",
    "e_noisy_b09": "noisy-bowl --b1 0.9 --b2 0.9 --steps 30",
}


@pytest.mark.parametrize("case", RECORDED)
def test_recorded_paths(case: str, tmp_path: pathlib.Path, capsys) -> None:
    with np.load(GOLDEN / f"{case}.npz") as file:
        points, losses, probes = file["p/v"], file["loss"], file["z/v"]
    np.save(tmp_path / "probes.npy", probes)
    command = f"path --learning-rate 1 --eps 1e-8 --json {RECORDED[case]}"
    (path,) = json.loads(run(capsys, command, "--probes-from", tmp_path / "probes.npy"))["paths"]
    assert path["ended"] is None
    np.testing.assert_allclose(path["points"], points, rtol=0, atol=1e-9)
    np.testing.assert_allclose(path["losses"][:-1], losses, rtol=0, atol=1e-9)


def test_path_prints_a_table_and_draws(tmp_path: pathlib.Path, capsys) -> None:
    picture = tmp_path / "path.svg"
    command = "path quadratic --b1 0 --b2 0 --eps 0 --learning-rate 1 --steps 3 --probes 2 --against sgd:0.05 --save"
    lines = run(capsys, command, picture).splitlines()
    # A step of 0.05 takes (x, y) to (0.9 x, 0.5 y): to (0.729, 0.125) in three.
    expected = ["optimizer steps x y f(x, y)", "adahessian 3 0 0 0", "sgd 3 0.729 0.125 0.609566"]
    assert [" ".join(line.split()) for line in lines] == [*expected, f"The picture is in {picture}."]
    assert "<svg" in picture.read_text()


def test_power_start_seed_and_a_leading_minus(capsys) -> None:
    def points(options: str) -> np.ndarray:
        command = f"path -x^2+x*y+5*y^2 --b1 0 --b2 0 --eps 0 --learning-rate 0.5 --steps 4 --json {options}"
        return np.array(json.loads(run(capsys, command))["paths"][0]["points"])

    # With power 0 a step is that of gradient descent; the gradient at (-2, 0) is (4, -2).
    np.testing.assert_allclose(points("--hessian-power 0 --start -2e0 0")[:2], [[-2, 0], [-2 - 0.5 * 4, 0.5 * 2]])
    assert not np.array_equal(points("--seed 1"), points("--seed 2"))


def test_path_ends_with_a_message_where_it_is_no_longer_finite(capsys) -> None:
    command = "path x**4+y**2 --start 3 1 --steps 50 --against sgd:1"
    assert "sgd: the path ends after step" in run(capsys, command)
    ours, sgd = json.loads(run(capsys, command, "--json"), parse_constant=pytest.fail)["paths"]
    assert ours["ended"] is None
    assert sgd["ended"].endswith("of 50: the next point or its f is infinite or NaN")
    assert len(sgd["losses"]) < 51


def test_estimate(tmp_path: pathlib.Path, capsys) -> None:
    command = "estimate x**2*y+y**3 --at 1 2 --max-probes 8 --repetitions 50"
    text = run(capsys, command, "--save", tmp_path / "estimate.png")
    assert (tmp_path / "estimate.png").read_bytes().startswith(b"\x89PNG")
    # H = [[2 y, 2 x], [2 x, 6 y]] = [[4, 2], [2, 12]]: rows of norm sqrt(20) and sqrt(148), error 2 / sqrt(n).
    rows = [line.split() for line in text.splitlines() if line.startswith(("x ", "y "))]
    assert [(row[1], row[4]) for row in rows] == [("4", "4.47214"), ("12", "12.1655")]
    report = json.loads(run(capsys, command, "--json"))
    assert (report["parameters"], report["counts"]) == (["x", "y"], [1, 4, 8])
    np.testing.assert_allclose(report["predicted_error"], 2 / np.sqrt([1, 4, 8]), rtol=1e-14)


def test_defaults_are_those_of_the_library() -> None:
    options = parse(["path"])
    given = (options.learning_rate, options.b1, options.b2, options.eps, options.hessian_power)
    assert given == oah.adahessian.__defaults__[:5]


NO_FUNCTION = "is neither an expression of x and y nor one of quadratic, quadratic-mixed, rosenbrock, himmelblau, noisy"
REFUSED = {
    # By the arguments alone.
    "": "the following arguments are required: command",
    "path rosenbrok": f"argument FUNCTION: 'rosenbrok' {NO_FUNCTION}-bowl. Did you mean rosenbrock?",
    "path -foo(x)": "unrecognized arguments: -foo(x)",
    "path --steps 0": "argument --steps: 0 must be an integer from 1 to 100000",
    "path --against adam,foo": "argument --against: 'foo' is not known; choose from adam, momentum,",
    "path --against adam:fast": "argument --against: the learning rate 'fast' of adam must be a number",
    "path --save path.bmp": "argument --save: 'path.bmp' must end in .png, .svg or .pdf",
    "path --save no/such/path.png": "argument --save: the folder 'no/such' does not exist",
    # With the function at hand.
    "path log(x) --start -1 1": "'log(x)' is infinite or NaN at the start (-1.0, 1.0). Choose another --start.",
    "path --eps -1": "`eps` (=-1.0) must be in [0, inf)",
    "path --probes-from no.npy": "'no.npy' cannot be read as an array (.npy)",
    "path --probes-from few.npy": "'few.npy' (of shape (3, 1, 2)) must hold one array of signs",
    "estimate --at 1 1": "--at is for functions of x and y; the network's parameters are fixed",
    "estimate sqrt(x) --at 0 0": "The Hessian of sqrt(x) at (0.0, 0.0) is infinite or NaN there.",
}


@pytest.mark.parametrize(("command", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(command: str, message: str, capsys, tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", np.ones((3, 1, 2)))
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ")
    assert captured.out == ""


@pytest.mark.parametrize(("command", "answer"), [("--version", oah.__version__), ("--help", "usage")])
def test_version_and_help(command: str, answer: str, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command])
    captured = capsys.readouterr()
    assert answer in captured.out
    assert captured.err == ""


def test_ctrl_c_ends_silently() -> None:
    # A shell starts programs in the background with this signal ignored.
    interrupted = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    interrupted += "from optax_adahessian import _cli\n"
    interrupted += "_cli.run = lambda options: os.kill(os.getpid(), signal.SIGINT)\n_cli.main()"
    done = subprocess.run([sys.executable, "-c", interrupted, "path"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")  # a shell shows 128 + 2


def test_a_closed_pipe_ends_silently() -> None:
    with subprocess.Popen([*PROGRAM, "path"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert (program.wait(), program.stderr.read()) == (-signal.SIGPIPE, b"")
