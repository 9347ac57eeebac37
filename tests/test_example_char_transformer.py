"""The character transformer runs, and bfloat16 trains it as well as float32."""

import re

import jax
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


@pytest.mark.long
def test_the_example_runs(capsys):
    # Twelve steps: the last, after the dense start, is without an estimate.
    example.main(["--steps", "12", "--width", "8", "--layers", "1"])
    line = r"12 steps, activations in float32, parameters in float32: validation loss \d\.\d{4} per character\n"
    assert re.fullmatch(line, capsys.readouterr().out)
