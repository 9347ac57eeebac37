"""What the pages and docstrings show runs, and prints what they say it prints."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import optax_adahessian

ROOT = Path(__file__).parent.parent
# A block of Python, and the block of plain text right after it, if any: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
# The page on distributed training has a test of its own, which also looks at what its loops print.
CANDIDATES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "distributed.md"})]
PAGES = [path for path in CANDIDATES if BLOCK.search(path.read_text())]


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in BLOCK.finditer(page.read_text()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block[1], str(page), "exec"), namespace)
        if block[2] is not None:
            assert out.getvalue() == block[2]


MODULES = [
    m.name for m in pkgutil.walk_packages(optax_adahessian.__path__, "optax_adahessian.") if "__main__" not in m.name
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_the_readme_names_every_argument():
    readme = (ROOT / "README.md").read_text()
    code = optax_adahessian.adahessian.__code__
    for argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        assert f"| `{argument}` |" in readme
    for name in set(optax_adahessian.__all__) - {"HutchinsonState", "ScaleByAdaHessianState"}:
        assert name in readme
