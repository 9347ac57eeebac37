"""The character transformer: what its parts do, and that bfloat16 trains it as well as float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples import char_transformer as example

STEPS = 60


def trained(dtype):
    """``(validation loss, parameters, state)`` of a small model after a short run, an estimate at every step."""
    train_tokens, validation_tokens, vocabulary = example.load()
    model = example.Transformer(vocabulary, width=16, layers=1, heads=2, dtype=dtype, param_dtype=dtype)
    params = jax.jit(model.init)(jax.random.key(0), train_tokens[None, : example.CONTEXT])
    loss_fn, tx = example.make_loss(model), example.partitioned(STEPS)
    params, state = example.train(loss_fn, tx, params, train_tokens, STEPS, batch_size=4, update_interval=1)
    return example.evaluate(loss_fn, params, validation_tokens[:4097]), params, state


@pytest.mark.long
def test_a_run_all_in_bfloat16_ends_within_3_percent_of_the_float32_run():
    expected, _, _ = trained("float32")
    loss, params, state = trained("bfloat16")
    assert expected < 3.6  # of 4.6 for equally likely characters: there is something to compare
    assert loss != expected
    np.testing.assert_allclose(loss, expected, rtol=0.03)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"bfloat16"}
    ours = optax.tree.get(state, "ScaleByAdaHessianState")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(ours.nu)} == {"float32"}
    assert (int(ours.count), int(ours.rejected)) == (STEPS, 0)


def test_only_embeddings_go_to_adamw_and_no_block_holds_a_convolution():
    model = example.Transformer(vocabulary=10)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, example.CONTEXT), jnp.int32))
    parts = jax.tree_util.tree_leaves_with_path(example.part(params))
    assert {path[1].key for path, part in parts if part == "adamw"} == {"Embed_0", "Embed_1"}
    assert {leaf.ndim for leaf in jax.tree.leaves(params)} == {1, 2}


def test_the_logits_of_a_character_see_none_after_it():
    model = example.Transformer(vocabulary=10, width=8, layers=1, heads=2)
    tokens = jnp.arange(example.CONTEXT)[None] % 10
    params = jax.jit(model.init)(jax.random.key(0), tokens)
    apply = jax.jit(model.apply)
    changed = apply(params, tokens.at[0, 40].add(1)) != apply(params, tokens)
    assert not changed[0, :40].any()
    assert changed[0, 40:].all()


def test_the_evaluation_is_the_mean_over_windows_that_predict_each_character_once():
    tokens = np.arange(3 * example.CONTEXT + 5) % 7
    seen = []

    def loss_fn(params, windows):
        seen.append(windows.shape)
        return jnp.mean((windows[:, 1:] - windows[:, :-1]) ** 2.0)

    expected = np.mean((tokens[1 : 3 * example.CONTEXT + 1] - tokens[: 3 * example.CONTEXT]) ** 2.0)
    np.testing.assert_allclose(example.evaluate(loss_fn, None, tokens), expected, rtol=1e-6)
    assert {shape[-1] for shape in seen} == {example.CONTEXT + 1}


@pytest.mark.long
def test_the_example_runs(capsys):
    # Twelve steps: the last, after the dense start, is without an estimate.
    example.main(["--steps", "12", "--width", "8", "--layers", "1"])
    line = r"12 steps, activations in float32, parameters in float32: validation loss \d\.\d{4} per character\n"
    assert re.fullmatch(line, capsys.readouterr().out)
