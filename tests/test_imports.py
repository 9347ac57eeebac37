"""Which module may import which, and what importing the package loads."""

import ast
import subprocess
import sys
from pathlib import Path

import optax_adahessian

PACKAGE = Path(optax_adahessian.__file__).parent

# Each module imports from rows above its own alone.
CORE = ["_errors _replicas", "_spatial_average _probes _products _momentum", "_estimate", "_adahessian"]
LEVEL = {name: level for level, row in enumerate(CORE) for name in row.split()}


def imported(path):
    """The modules of this package that a file imports, and all other packages."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        if isinstance(node, ast.Import):
            yield from [alias.name for alias in node.names]


def test_imports_run_one_way():
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith(("__", "_cli"))}
    assert modules == set(LEVEL), "a module has no place in the picture"
    allowed = {"__future__", "jax", "numpy", "optax", *sys.stdlib_module_names}
    for name in modules:
        for other in imported(PACKAGE / f"{name}.py"):
            package, _, module = other.partition(".")
            if package == "optax_adahessian":
                assert LEVEL[module] < LEVEL[name], f"{name} imports {other}"
            else:
                assert package in allowed, f"{name} imports {other}"


def test_every_public_name_is_documented_and_known_to_type_checkers():
    for name in optax_adahessian.__all__:
        assert getattr(optax_adahessian, name).__doc__
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    typed = [alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(typed) == optax_adahessian.__all__


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_plots_and_no_networks():
    loaded = "{name.split('.')[0] for name in sys.modules}"
    code = f"import sys; from optax_adahessian import *; print({{'matplotlib', 'flax', 'sklearn'}} & {loaded})"
    assert printed(code) == "set()"


def test_building_an_optimizer_does_not_start_the_runtime():
    """So that it may be built before `jax.distributed.initialize`."""
    code = (
        "import optax_adahessian as oah; from jax._src import xla_bridge; oah.adahessian(update_interval=10);"
        "oah.adaptive_nesterov(); print(xla_bridge.backends_are_initialized())"
    )
    assert printed(code) == "False"
