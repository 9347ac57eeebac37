"""What docs/promises.md promises of a run, and that its table names tests that exist."""

import ast
import pickle
import re
import resource
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import ways

import optax_adahessian as oah

TESTS = Path(__file__).parent
STOP, END = 4, 8  # estimates at steps 0, 1, 3 and 6: 4 lies between two


def advance(carry, steps):
    step = jax.jit(ways.fed_by_loss(ways.optimizer(update_interval=3, dense_start=2)))
    for i in steps:
        *carry, _ = step(*carry, ways.key_at(i), ways.batch_at(i))
    return jax.device_get(carry)


def start():
    return ways.initial_params(), ways.optimizer().init(ways.initial_params())


def run_anew_and_resumed(path):
    """What the other process does: the whole run, and the end of the one stored at `path`, which it replaces."""
    stopped = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps((advance(start(), range(END)), advance(stopped, range(STOP, END)))))


def test_the_same_seed_gives_the_same_bits_in_another_process_also_after_a_resume(tmp_path):
    stored = tmp_path / "run.pickle"
    stopped = advance(start(), range(STOP))
    stored.write_bytes(pickle.dumps(stopped))
    program = "import conftest, pathlib, sys, test_promises as t; t.run_anew_and_resumed(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, stored], cwd=TESTS, check=True, timeout=300)
    expected = advance(stopped, range(STOP, END))
    for got in pickle.loads(stored.read_bytes()):
        chex.assert_trees_all_equal(got, expected)


@pytest.mark.parametrize("feed", [ways.fed_by_estimate, ways.fed_by_loss, ways.without_estimate])
def test_a_step_calls_no_python(feed):
    noisy = lambda params, batch: jax.debug.callback(lambda: None) or ways.loss_fn(params, batch)
    tx, params = ways.optimizer(update_interval=3), ways.initial_params()
    for loss, calls in ((ways.loss_fn, False), (noisy, True)):
        jaxpr = jax.make_jaxpr(feed(tx, loss))(params, tx.init(params), ways.key_at(0), ways.batch_at(0))
        assert ("callback" in str(jaxpr)) == calls


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_100_000_steps_leave_nothing_behind():
    """No array, no memory, no transfer, no second compilation. A leak of 50 bytes a step would be 4.5 MB."""
    tx = oah.adahessian(1e-3, update_interval=2)

    @jax.jit
    def step(params, state, x):
        loss_fn = lambda w: jnp.sum((w - x) ** 4)
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)
        return optax.apply_updates(params, updates), state

    params, x = jnp.ones(2), jnp.zeros(2)
    state, left = tx.init(params), []
    with jax.transfer_guard("disallow"):
        for steps in (10_000, 90_000):
            for _ in range(steps):
                params, state = step(params, state, x)
            jax.block_until_ready(params)
            left.append((len(jax.live_arrays()), resident_bytes()))
    assert state[0].count == 100_000
    assert left[1][0] == left[0][0]
    assert left[1][1] - left[0][1] < 4.5e6
    assert step._cache_size() == 1


def test_the_table_of_promises_names_tests_that_exist():
    page = (TESTS.parent / "docs" / "promises.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for _, tests, _ in rows:
        named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", tests)
        assert named
        for module, function in named:
            tree = ast.parse((TESTS / f"{module}.py").read_text())
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
