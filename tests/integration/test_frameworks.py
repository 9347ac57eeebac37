"""The page "In your framework": every program runs, and changes as few lines from Adam as the page says."""

import contextlib
import difflib
import io
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from helpers.jaxprs import all_equations

import optax_adahessian as oah

PAGE = (Path(__file__).parents[2] / "docs" / "in_your_framework.md").read_text()
SECTION = re.compile(r"^##+ (.*?)\n(.*?)(?=^##+ |\Z)", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(python|diff|)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHANGES = re.compile(r"(\d+) lines? changes?")


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
    assert len(PROGRAMS) == len(re.findall("^```diff", PAGE, re.MULTILINE)) == len(CHANGES.findall(PAGE)) > 10


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_page_states_how_many_lines_change(name):
    program = PROGRAMS[name]
    opcodes = difflib.SequenceMatcher(None, program.adam, program.ours, autojunk=False).get_opcodes()
    changed = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes if tag != "equal")
    assert changed == program.stated


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


STATE = "With batch statistics, dropout and other state"
COMPARED = {
    "obj_fn": [
        (
            "    optimizer.update(model, grads, obj_fn=obj_fn)\n    return loss",
            "    return loss, obj_fn(nnx.state(model, nnx.Param))",
        )
    ],
    "keys": [
        (
            "    diag = estimate(key, params, graphdef, rest, rngs, batch)[2]",
            "    value = estimate(key, params, graphdef, rest, rngs, batch)[0]",
        ),
        ("    optimizer.update(model, grads, hessian_diag=diag)\n    return loss", "    return loss, value"),
    ],
}


def losses_of_gradient_and_curvature(feed, *replacements):
    """Of one step of the NNX program with dropout and batch statistics."""
    code, _, _ = source(f"{STATE}, {feed}", *COMPARED[feed], *replacements).partition("for t in")
    program, _ = run(code)
    key = [] if feed == "obj_fn" else [jax.random.key(0)]
    return program["train_step"](*(program[name] for name in ("model", "optimizer", "rngs", "batch")), *key)


@pytest.mark.parametrize("feed", COMPARED)
def test_gradient_and_curvature_see_the_same_dropout_masks_and_statistics(feed):
    of_gradient, of_curvature = losses_of_gradient_and_curvature(feed)
    np.testing.assert_allclose(of_curvature, of_gradient, rtol=1e-6)


def test_without_the_clone_they_see_different_masks():
    by_reference = ("before = nnx.clone((model, rngs))", "before = model, rngs")
    of_gradient, of_curvature = losses_of_gradient_and_curvature("obj_fn", by_reference)
    assert abs(of_curvature / of_gradient - 1) > 1e-3


def test_without_the_second_clone_flax_refuses():
    with pytest.raises(Exception, match=r"Cannot mutate .* from a different trace level"):
        run(source(f"{STATE}, obj_fn", ("model, rngs = nnx.clone(before)", "model, rngs = before")))


def test_a_step_of_the_nnx_program_without_a_key_costs_what_adams_costs():
    flops = []
    for code, key in ("\n".join(PROGRAMS[f"{STATE}, keys"].adam), []), (source(f"{STATE}, keys"), [None]):
        program, _ = run(code.partition("for t in")[0])
        args = [program[name] for name in ("model", "optimizer", "rngs", "batch")]
        flops.append(program["train_step"].lower(*args, *key).compile().cost_analysis()["flops"])
    assert flops[1] < 1.01 * flops[0]


def test_an_obj_fn_that_ignores_its_argument_moves_every_parameter_by_the_clip():
    code = source(
        "Flax NNX, obj_fn",
        (
            "obj_fn=lambda p: loss_fn(nnx.merge(nnx.graphdef(model), p), batch)",
            "obj_fn=lambda _: loss_fn(model, batch)",
        ),
    )
    program, _ = run(code.partition("for t in")[0])
    model = program["model"]
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model)))
    program["train_step"](model, program["optimizer"], program["batch"])
    moved = jax.tree.map(lambda a, b: np.abs(a - b), nnx.to_pure_dict(nnx.state(model)), before)
    for leaf in jax.tree.leaves(moved):
        np.testing.assert_allclose(leaf, 0.01, rtol=1e-3)


def test_nnx_trains_what_a_filter_selects():
    wrt = "nnx.All(nnx.Param, nnx.PathContains('output'))"
    code = source(
        "Flax NNX, obj_fn",
        ("wrt=nnx.Param", f"wrt={wrt}"),
        ("nnx.value_and_grad(loss_fn)", f"nnx.value_and_grad(loss_fn, argnums=nnx.DiffState(0, {wrt}))"),
        ("    optimizer.update(", f"    graphdef, _, rest = nnx.split(model, {wrt}, ...)\n    optimizer.update("),
        ("nnx.merge(nnx.graphdef(model), p)", "nnx.merge(graphdef, p, rest)"),
        (
            "model = Net(nnx.Rngs(0))",
            "model = Net(nnx.Rngs(0))\nfirst = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model)))",
        ),
    )
    program, losses = run(code)
    last = nnx.to_pure_dict(nnx.state(program["model"]))
    assert losses[-1] < losses[0] / 4
    np.testing.assert_array_equal(last["hidden"]["kernel"], program["first"]["hidden"]["kernel"])


def test_apply_gradients_of_flax_keeps_obj_fn_to_itself_and_the_error_names_the_page():
    params = {"kernel": jnp.ones(3)}
    state = TrainState.create(apply_fn=None, params=params, tx=oah.adahessian())
    with pytest.raises(ValueError, match=r"`TrainState.apply_gradients`.*docs/in_your_framework.md"):
        state.apply_gradients(grads=params, obj_fn=lambda p: jnp.sum(p["kernel"] ** 2))


def test_keras_draws_the_same_mask_for_the_same_variables():
    program, _ = run(source("A loop of your own, obj_fn").partition("for t in")[0])
    with jax.numpy_rank_promotion("allow"):
        first, rest = program["loss_fn"](program["params"], program["rest"], program["batch"])
        again, _ = program["loss_fn"](program["params"], program["rest"], program["batch"])
        other, _ = program["loss_fn"](program["params"], rest, program["batch"])
    assert first == again != other


def has_cond(jaxpr):
    return any(equation.primitive.name == "cond" for equation in all_equations(jaxpr.jaxpr))


def test_the_cond_of_a_scan_survives_vmap_only_if_the_state_is_made_inside():
    program, _ = run(source("Training inside `lax.scan`, obj_fn").partition("losses = ")[0])
    inside = jax.make_jaxpr(jax.vmap(program["train"]))(jnp.arange(4))
    assert has_cond(inside)

    tx, loss_fn = program["tx"], lambda p: jnp.sum(p**4)
    params = jnp.ones((4, 3))
    step = lambda params, state: tx.update(params, state, params, obj_fn=loss_fn)
    outside = jax.make_jaxpr(jax.vmap(step))(params, jax.vmap(tx.init)(params))
    assert not has_cond(outside)
