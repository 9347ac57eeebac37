"""What is handed out: the wheel and the sdist, built from the working tree and once more from the sdist itself."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def build(source, out):
    """The sdist and the wheel of a folder."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=source, capture_output=True, check=True)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def in_the_repository(*folders):
    """The files under `folders` that git knows or would not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("the list of expected files is that of a clone")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def test_the_package_needs_jax_and_optax_alone(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = sorted(name for name in wheel.namelist() if name.endswith((".dist-info/METADATA", ".dist-info/WHEEL")))
        described, tags = (email.message_from_bytes(wheel.read(name)) for name in names)
    required = [line for line in described.get_all("Requires-Dist") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in required} == {"jax", "jaxlib", "optax"}
    assert (described["License-Expression"], described["License-File"]) == ("Apache-2.0", "LICENSE")
    assert tags["Tag"] == "py3-none-any"


def test_the_wheel_holds_the_package_and_nothing_else(built):
    package = in_the_repository("optax_adahessian")
    assert "optax_adahessian/py.typed" in package
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    folder = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert names == package | {f"{folder}/{name}" for name in DIST_INFO}


def test_the_sdist_holds_the_repository_without_its_ci(built):
    ci = ".ci/", ".github/", ".pre-commit"
    with tarfile.open(built[0]) as sdist:
        names = {member.name.split("/", 1)[1] for member in sdist}
    assert names == {name for name in in_the_repository(".") if not name.startswith(ci)} | {"PKG-INFO"}


def test_builds_are_reproducible(built, tmp_path):
    """Another folder, other times of the files and no git: the sdist gives itself and the same wheel, byte for byte."""
    with tarfile.open(built[0]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for path in source.rglob("*"):
        path.touch()
    for first, second in zip(built, build(source, tmp_path / "dist"), strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()
