"""The pages of docs/frameworks: every program runs, and so does what the diffs make of it, with Adam and `obj_fn`."""

import contextlib
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from helpers.jaxprs import all_equations

import optax_adahessian as oah

DOCS = Path(__file__).parents[2] / "docs" / "frameworks"
PAGES = {page.stem: page.read_text() for page in sorted(DOCS.glob("*.md")) if "```diff" in page.read_text()}
BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def lines_of(code):
    """Without empty lines and remarks, which diffs leave out."""
    return [re.sub("  # .*", "", line) for line in code.splitlines() if line.strip()]


def apply_diff(diff, code, old="-", new="+"):
    """The lines of code with each hunk's old lines replaced by its new ones; an empty line ends a hunk."""
    at, code = 0, list(code)
    for hunk in diff.strip("\n").split("\n\n"):
        before, after = ([line[1:] for line in hunk.splitlines() if line[0] in f" {sign}"] for sign in (old, new))
        if before:
            places = [i for i in range(at, len(code)) if code[i : i + len(before)] == before]
            assert places, f"not in the program: {before}"
            at = places[0]
        else:
            assert after[0].startswith("import ")
            at = 1 + max(i for i, line in enumerate(code) if re.match("import |from ", line))
        code[at : at + len(before)] = after
        at += len(after)
    return code


def programs():
    """By page, number of the program and kind: as shown, with Adam, and what each further diff makes of that."""
    for page, text in PAGES.items():
        number = diffs = 0
        for language, content in BLOCK.findall(text):
            if language == "python":
                number, diffs, shown = number + 1, 0, lines_of(content)
                yield f"{page} {number} shown", shown
            elif diffs == 0:
                diffs, adam = 1, apply_diff(content, shown, old="+", new="-")
                yield f"{page} {number} adam", adam
            else:
                diffs += 1
                yield f"{page} {number} diff {diffs}", apply_diff(content, adam)


PROGRAMS = {name: "\n".join(lines) for name, lines in programs()}
SLOW = ("numpyro 1 adam", "numpyro 1 diff 2", "diffrax 1 adam")  # parameters in different units
SHOWN = [name for name in PROGRAMS if name.endswith("shown")]


def run(code, namespace=None):
    """The namespace after running the code, and the losses that it prints."""
    out, namespace = io.StringIO(), namespace or {"__name__": "program"}
    with contextlib.redirect_stdout(out), jax.numpy_rank_promotion("allow"):
        exec(compile(code, "docs/frameworks", "exec"), namespace)
    return namespace, [float(loss) for loss in re.findall(r"loss ([\d.]+)", out.getvalue())]


def source(name, *replacements):
    """A program of the pages, each replacement made exactly once."""
    code = PROGRAMS[name]
    for old, new in replacements:
        assert code.count(old) == 1
        code = code.replace(old, new)
    return code


def test_every_diff_was_read():
    assert len(PROGRAMS) - len(SHOWN) == sum(text.count("```diff") for text in PAGES.values()) > 10


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_run_and_their_losses_fall(page):
    namespace = {"__name__": "program"}
    for name in SHOWN:
        if name.startswith(f"{page} "):
            _, losses = run(PROGRAMS[name], namespace)
            assert not losses or losses[-1] < losses[0] / 4, name


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in SHOWN])
def test_the_program_that_a_diff_makes_runs(name):
    _, losses = run(PROGRAMS[name])
    assert losses[-1] < losses[0] / (1 if name in SLOW else 4)


NNX = "flax_nnx 1"


def a_step_of(code):
    """The loss of one step of an NNX program, and the state that it leaves beside the parameters."""
    program, _ = run(code.partition("for t in")[0])
    key = [jax.random.key(0)] if "estimate" in program else []
    loss = program["train_step"](program["model"], program["optimizer"], program["batch"], *key)
    return loss, nnx.state(program["model"], nnx.Not(nnx.Param))


def test_the_nnx_program_leaves_the_state_that_adams_does():
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(*map(nnx_number, (a, b)), rtol=1e-5),
        *(a_step_of(PROGRAMS[f"{NNX} {kind}"]) for kind in ("shown", "adam")),
    )


def nnx_number(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


OF_GRADIENT_AND_CURVATURE = (
    "    optimizer.update(model, grads, obj_fn=obj_fn)\n    return loss",
    "    return loss, obj_fn(nnx.state(model, nnx.Param))",
)


@pytest.mark.parametrize(("before", "same"), [("nnx.clone(model)", True), ("model", False)])
def test_gradient_and_curvature_see_the_same_dropout_masks_and_statistics_by_the_clone(before, same):
    cloned = ("before = nnx.clone(model)", f"before = {before}")
    (of_gradient, of_curvature), _ = a_step_of(source(f"{NNX} diff 2", OF_GRADIENT_AND_CURVATURE, cloned))
    difference = abs(of_curvature / of_gradient - 1)
    assert difference < 1e-6 if same else difference > 1e-3


def test_nnx_trains_what_a_filter_selects():
    wrt = "nnx.All(nnx.Param, nnx.PathContains('output'))"
    split = ("nnx.split(model, nnx.Param, ...)", f"nnx.split(model, {wrt}, ...)")
    rest = ("nnx.state(model, nnx.Not(nnx.Param))", f"nnx.state(model, nnx.Not({wrt}))")
    model = "model = Net(nnx.Rngs(0))"
    first = (model, f"{model}\nfirst = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))")
    program, losses = run(source(f"{NNX} shown", split, rest, first, ("wrt=nnx.Param", f"wrt={wrt}")))
    last = nnx.to_pure_dict(nnx.state(program["model"], nnx.Param))
    assert losses[-1] < losses[0] / 4
    np.testing.assert_array_equal(last["hidden"]["kernel"], program["first"]["hidden"]["kernel"])


def test_apply_gradients_of_flax_keeps_obj_fn_to_itself_and_the_error_names_the_page():
    params = {"kernel": jnp.ones(3)}
    state = TrainState.create(apply_fn=None, params=params, tx=oah.adahessian())
    with pytest.raises(ValueError, match=r"`TrainState.apply_gradients`.*docs/frameworks"):
        state.apply_gradients(grads=params, obj_fn=lambda p: jnp.sum(p["kernel"] ** 2))


def test_keras_draws_the_same_mask_for_the_same_variables():
    program, _ = run(PROGRAMS["keras 1 shown"].partition("for t in")[0])
    with jax.numpy_rank_promotion("allow"):
        first, rest = program["loss_fn"](program["params"], program["rest"], program["batch"])
        again, _ = program["loss_fn"](program["params"], program["rest"], program["batch"])
        other, _ = program["loss_fn"](program["params"], rest, program["batch"])
    assert first == again != other


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # in Keras
def test_the_keras_optimizer_is_restored_and_estimates_the_loss_without_its_scale(tmp_path):
    program, _ = run(source("keras 2 shown", ("epochs=8", "epochs=1")))
    keras, model = program["keras"], program["model"]
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.optimizer, program["AdaHessian"])
    for before, after in zip(model.optimizer.variables, restored.optimizer.variables, strict=True):
        np.testing.assert_array_equal(before.value, after.value)

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        scaled, _ = run(source("keras 2 shown", ("epochs=8", "epochs=1")))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = scaled["model"].optimizer
    assert optimizer.dynamic_scale.value > 1000
    for plain, half in zip(model.optimizer.state, optimizer.inner_optimizer.state, strict=True):
        np.testing.assert_allclose(half.value, plain.value, rtol=0.05, atol=1e-3)


def has_cond(jaxpr):
    """A choice by a value, and not by the platform that the program is compiled for."""
    conds = [equation for equation in all_equations(jaxpr.jaxpr) if equation.primitive.name == "cond"]
    return any(not equation.params.get("branches_platforms") for equation in conds)


def test_the_cond_of_a_scan_survives_vmap_only_if_the_state_is_made_inside():
    program, _ = run(PROGRAMS["scan 1 diff 2"].partition("costs = jax.jit")[0])
    with jax.numpy_rank_promotion("allow"):
        inside = jax.make_jaxpr(jax.vmap(program["train"]))(jnp.arange(4))
    assert has_cond(inside)

    tx, loss_fn = program["tx"], lambda p: jnp.sum(p**4)
    params = jnp.ones((4, 3))
    step = lambda params, state: tx.update(params, state, params, obj_fn=loss_fn)
    outside = jax.make_jaxpr(jax.vmap(step))(params, jax.vmap(tx.init)(params))
    assert not has_cond(outside)
