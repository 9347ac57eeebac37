"""What the README, the pages and the docstrings show runs and prints what they say."""

import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import optax_adahessian

ROOT = Path(__file__).parents[2]
# A block of Python, and the block of plain text right after it, if any: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def has_tests_of_its_own(page):
    """The one below, or integration/test_frameworks.py, which also applies the diffs."""
    return page.stem == "distributed" or (page.parent.name == "frameworks" and "```diff" in page.read_text())


WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text()) and not has_tests_of_its_own(page)]


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code, printed in BLOCK.findall(page.read_text()):
        out = io.StringIO()
        # As a reader has it: other libraries promote ranks.
        with jax.numpy_rank_promotion("allow"), contextlib.redirect_stdout(out):
            exec(compile(code, str(page), "exec"), namespace)
        assert not printed or out.getvalue() == printed


OTHER_PROBES = {"ensemble"}


@pytest.mark.long
def test_the_loops_on_distributed_training_run_on_eight_devices_and_those_with_shared_probes_end_alike():
    page = (ROOT / "docs" / "distributed.md").read_text()
    code = "\n".join(code for code, _ in BLOCK.findall(page))
    eight_devices = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=eight_devices, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    losses = {way: float(loss) for way, loss in re.findall(r"^(.*): (.*)$", done.stdout, flags=re.MULTILINE)}
    assert len(losses) == len(re.findall(r'\btrain\("', page))
    shared = {way: loss for way, loss in losses.items() if way not in OTHER_PROBES}
    assert shared == pytest.approx(dict.fromkeys(shared, losses["one device"]), abs=1e-5)
    assert all(losses[way] < 0.2 for way in OTHER_PROBES)


MODULES = [
    m.name for m in pkgutil.walk_packages(optax_adahessian.__path__, "optax_adahessian.") if "__main__" not in m.name
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_reference_lists_every_public_name():
    names = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(optax_adahessian.__all__)


@jax.custom_vjp
def squared(x):
    return x**2


@jax.custom_vjp
def cubed(x):
    return x**3


squared.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
cubed.defvjp(lambda x: (x**3, x), lambda x, g: (3 * squared(x) * g,))


@pytest.mark.parametrize(
    "loss_fn",
    [
        cubed,
        lambda x: jax.lax.while_loop(lambda x: x < 1, lambda x: x + 1, x),
        lambda x: jax.pure_callback(lambda x: x, jnp.zeros([]), x),
        lambda x: jnp.stack([x, x]),
    ],
    ids=["custom_vjp", "while", "callback", "batch"],
)
def test_a_search_for_what_jax_says_finds_the_page_on_losses(loss_fn):
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "losses.md").read_text())
    with pytest.raises((TypeError, ValueError)) as error:
        optax_adahessian.value_grad_and_hessian_diag(loss_fn)(jax.random.key(0), jnp.float32(0.5))
    assert re.split(r"[.;,] ", str(error.value))[0].rstrip(".") in page


def test_the_settings_name_every_argument():
    code = optax_adahessian.adahessian.__code__
    settings = (ROOT / "docs" / "settings.md").read_text()
    missing = {name for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if name not in settings}
    assert missing == set()
