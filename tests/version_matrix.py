"""The core tests against the oldest and the newest versions that pyproject.toml admits, side by side: `make matrix`.

The oldest JAX and Optax are installed from the sdist with the oldest Python found, the newest from the wheel with the
newest one. The tests run from an empty folder, so that they see the installed package alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The replays are compiled with options of one version of XLA, and the counts of operations are those of one JAX.
ALONE = ["--ignore=tests/core/test_golden.py", "--ignore=tests/core/test_programs.py"]
TESTS = ["tests/core", "tests/sharding", *ALONE]


def interpreters() -> list[str]:
    """The Pythons that run and make environments, among the versions that pyproject.toml names, oldest first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = []
    for version in [m[1] for line in PROJECT["classifiers"] if (m := re.search(r":: (3\.\d+)$", line))]:
        for python in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))):
            # A shim of pyenv is on the PATH for versions, too, that are not switched on: it fails.
            if python and not subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode:
                found.append(str(python))
                break
    return found or [sys.executable]


def run(log: Path, *command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a command, its output added to `log`; raises where it fails."""
    with log.open("a") as out:
        subprocess.run([*map(str, command)], cwd=cwd, stdout=out, stderr=subprocess.STDOUT, check=True)


def check(name: str, python: str, package: Path, pins: list[str], sdist: Path) -> bool:
    """Installs `package` into an environment of its own and runs the sdist's tests there."""
    environment, log = ROOT / f".venv-{name}", ROOT / "out" / f"matrix-{name}.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (tree,) = Path(folder).iterdir()
        shutil.rmtree(tree / "optax_adahessian")
        runs = environment / "bin" / "python"
        try:
            run(log, python, "-m", "venv", "--clear", environment)
            run(log, runs, "-m", "pip", "install", "--quiet", f"{package}[matrix]", *pins)
            run(log, runs, "-m", "pip", "list")
            run(log, runs, "-m", "pytest", "-m", "not long", *TESTS, cwd=tree)
        except subprocess.CalledProcessError as error:
            print(log.read_text(), f"{name}: {error}", sep="\n")
            return False
    print(f"{name}: {log.read_text().splitlines()[-1].strip('= ')}; log in {log.relative_to(ROOT)}")
    return True


def main() -> None:
    """Builds both distributions and runs both environments."""
    dist, pythons = ROOT / "out" / "dist", interpreters()
    shutil.rmtree(dist, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", dist], cwd=ROOT, check=True)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    oldest = [dependency.replace(">=", "==") for dependency in PROJECT["dependencies"]]
    with ThreadPoolExecutor() as pool:
        results = [
            pool.submit(check, "oldest", pythons[0], sdist, oldest, sdist),
            pool.submit(check, "newest", pythons[-1], wheel, [], sdist),
        ]
    sys.exit(not all(result.result() for result in results))


if __name__ == "__main__":
    main()
