"""The rooms of the house: which module may import which, and what importing the package loads."""

import ast
import subprocess
import sys
from pathlib import Path

import optax_adahessian

PACKAGE = Path(optax_adahessian.__file__).parent

# Each module imports from rows above its own alone.
CORE = [
    ["_checks"],
    ["_losses", "_replicas", "_schedule", "_bound", "_presets", "_blocks", "_forward_mode", "_feed", "_probes"],
    ["_products", "_spatial"],
    ["_diagonal", "_moments"],
    ["_curvature", "_momentum"],
    ["_transform"],
    ["_alias"],
]
LEVEL = {name: level for level, row in enumerate(CORE) for name in row}


def imported(path):
    """The modules of this package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "optax_adahessian":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            yield from [a.name.split(".")[1] for a in node.names if a.name.startswith("optax_adahessian.")]


def test_imports_run_one_way():
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith(("__", "_cli"))}
    assert modules == set(LEVEL), "a module has no place in the picture"
    for name in modules:
        for other in imported(PACKAGE / f"{name}.py"):
            assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


def test_files_are_short():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 220, path.name


def test_every_public_name_is_listed_and_documented():
    for name in optax_adahessian.__all__:
        assert getattr(optax_adahessian, name).__doc__
    public = {name for name in vars(optax_adahessian) if not name.startswith("_")}
    assert public - set(optax_adahessian.__all__) <= {"analysis"}


def test_importing_the_package_loads_no_plots_and_no_networks():
    unwanted = "{'matplotlib', 'flax', 'sklearn'}"
    code = f"import sys, optax_adahessian; print({unwanted} & {{name.split('.')[0] for name in sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_building_an_optimizer_does_not_start_the_runtime():
    """So that it may be built before `jax.distributed.initialize`."""
    code = (
        "import optax_adahessian as oah; from jax._src import xla_bridge; oah.adahessian(update_interval=10);"
        "print(xla_bridge.backends_are_initialized())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
