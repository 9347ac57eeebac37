"""What the README, the pages and the docstrings show runs and prints what they say, within the limits of length."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import optax_adahessian

ROOT = Path(__file__).parent.parent
# A block of Python, and the block of plain text right after it, if any: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def has_tests_of_its_own(page):
    """In test_distributed_docs.py, or in test_frameworks.py, which also applies the diffs."""
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


MODULES = [
    m.name for m in pkgutil.walk_packages(optax_adahessian.__path__, "optax_adahessian.") if "__main__" not in m.name
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_readme_and_the_pages_stay_short():
    assert len(PAGES[0].read_text().splitlines()) <= 120
    code_and_tables = re.compile(r"^```.*?^```$|^\|.*?$", re.DOTALL | re.MULTILINE)
    prose = {str(page.relative_to(ROOT)): code_and_tables.sub("", page.read_text()) for page in PAGES[1:]}
    words = {name: len(re.findall(r"\S*\w\S*", text)) for name, text in prose.items()}
    assert sum(words.values()) <= 10_000, words


def test_the_reference_lists_every_public_name():
    names = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(optax_adahessian.__all__)


def test_the_settings_name_every_argument():
    code = optax_adahessian.adahessian.__code__
    settings = (ROOT / "docs" / "settings.md").read_text()
    missing = {name for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if name not in settings}
    assert missing == set()
