"""Which module may import which, and what importing the package loads."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import optax_adahessian

PACKAGE = Path(optax_adahessian.__file__).parent

ALLOWED = {"__future__", "jax", "numpy", "optax", *sys.stdlib_module_names}


def imported(path):
    """What a file imports, as full names of modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        if isinstance(node, ast.Import):
            yield from [alias.name for alias in node.names]


def test_the_modules_of_the_core_import_one_another_in_no_circle_and_jax_and_optax_alone():
    core = [path for path in PACKAGE.glob("*.py") if not path.stem.startswith(("__", "_cli"))]
    graph = {f"optax_adahessian.{path.stem}": set(imported(path)) for path in core}
    order = graphlib.TopologicalSorter(graph).static_order()  # raises CycleError
    assert {name.partition(".")[0] for name in set(order) - set(graph)} <= ALLOWED


def test_every_public_name_is_documented():
    for name in optax_adahessian.__all__:
        assert getattr(optax_adahessian, name).__doc__


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
