"""The page "In your framework": every program runs, and changes as few lines from Adam as the page says."""

import contextlib
import difflib
import io
import re
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import monitoring

import optax_adahessian as oah

PAGE = (Path(__file__).parent.parent / "docs" / "in_your_framework.md").read_text()
SECTION = re.compile(r"^##+ (.*?)\n(.*?)(?=^##+ |\Z)", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(python|diff|)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHANGES = re.compile(r"(\d+) lines? changes?")
MOST_LINES = {"obj_fn": 8, "keys": 10}  # the scan without a cond is neither


class Program(NamedTuple):
    title: str
    feed: str  # "obj_fn", "keys" or "scan"
    stated: int  # how many lines change, says the page
    adam: list[str]  # lines of code, without the empty ones
    ours: list[str]
    classes: str  # what the page defines before the program


def lines_of(code):
    return [line for line in code.splitlines() if line.strip()]


def apply_diff(diff, code, old="-", new="+"):
    """The lines of code with each hunk's old lines replaced by its new ones; an empty line ends a hunk."""
    at, code = 0, list(code)
    for hunk in diff.strip("\n").split("\n\n"):
        before, after = ([line[1:] for line in hunk.splitlines() if line[0] in f" {sign}"] for sign in (old, new))
        if before:
            at = next(i for i in range(at, len(code)) if code[i : i + len(before)] == before)
        else:
            assert after[0].startswith("import ")
            at = 1 + max(i for i, line in enumerate(code) if re.match("import |from ", line))
        code[at : at + len(before)] = after
        at += len(after)
    return code


def programs():
    for title, text in SECTION.findall(PAGE):
        blocks = BLOCK.findall(text)
        diffs = [content for language, content in blocks if language == "diff"]
        if not diffs:
            continue
        *classes, shown = [content for language, content in blocks if language == "python"]
        adam = apply_diff(diffs[0], lines_of(shown), old="+", new="-")
        feeds = ("obj_fn", "scan" if "lax.scan" in title else "keys")
        for feed, stated, diff in zip(feeds, CHANGES.findall(text), diffs, strict=False):
            yield Program(title, feed, int(stated), adam, apply_diff(diff, adam), "".join(classes))


PROGRAMS = {f"{p.title}, {p.feed}": p for p in programs()}


def run(code):
    """The namespace after running the code, and the losses that it prints."""
    out, namespace = io.StringIO(), {"__name__": "program"}
    with contextlib.redirect_stdout(out), jax.numpy_rank_promotion("allow"):
        exec(compile(code, "docs/in_your_framework.md", "exec"), namespace)
    return namespace, [float(loss) for loss in re.findall(r"loss ([\d.]+)", out.getvalue())]


def source(name, *replacements):
    """A program of the page, each replacement made exactly once."""
    code = PROGRAMS[name].classes + "\n".join(PROGRAMS[name].ours)
    for old, new in replacements:
        assert code.count(old) == 1
        code = code.replace(old, new)
    return code


def test_every_section_was_read():
    assert len({p.title for p in PROGRAMS.values()}) == 10
    assert len(PROGRAMS) == len(re.findall("^```diff", PAGE, re.MULTILINE)) == len(CHANGES.findall(PAGE)) == 17


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_page_states_how_many_lines_change(name):
    program = PROGRAMS[name]
    opcodes = difflib.SequenceMatcher(None, program.adam, program.ours, autojunk=False).get_opcodes()
    changed = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes if tag != "equal")
    assert changed == program.stated <= MOST_LINES.get(program.feed, 20)
    assert len(program.ours) + len(lines_of(program.classes)) <= 40
    assert max(map(len, program.ours)) <= 120


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_runs_and_its_loss_falls(name):
    _, losses = run(source(name))
    assert losses[-1] < losses[0] / 4


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.endswith("obj_fn")])
def test_the_diff_is_from_a_program_with_adam_that_runs(name):
    _, losses = run("\n".join(PROGRAMS[name].adam))
    assert losses[-1] < losses[0] / 4


def test_the_blocks_of_the_custom_layout_are_as_printed():
    ((_, text),) = [section for section in SECTION.findall(PAGE) if section[0] == "Layouts"]
    (_, code), (_, printed) = BLOCK.findall(text)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == printed
