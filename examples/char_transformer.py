"""A character transformer on the texts of Python's help topics: AdaHessian for the blocks, AdamW for the embeddings.

    python -m examples.char_transformer
    python -m examples.char_transformer --dtype bfloat16

`optax.partition` gives each part of the parameters its own optimizer. The loss cannot be computed from one part alone,
so the loop makes the estimate for all parameters and passes `hessian_diag`: each optimizer takes what is its own.
AdaHessian is the recommended call: `adaptive_nesterov`, the rule, and a clip.
"""

import argparse
import pydoc_data.topics

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import optax_adahessian as oah
from examples import positive_int

DTYPES = ("float32", "bfloat16")
CONTEXT = 64


class Block(nn.Module):
    """Causal self-attention and a layer for each character by itself.

    All kernels are matrices: by their rank `SpatialAverage.rows` would take those of
    `flax.linen.MultiHeadDotProductAttention`, (in, heads, features), for convolutions.
    """

    heads: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x):
        def dense(features):
            return nn.Dense(features, dtype=self.dtype, param_dtype=self.param_dtype)

        def norm(x):
            return nn.LayerNorm(dtype=self.dtype, param_dtype=self.param_dtype)(x)

        *batch, length, width = x.shape
        query, key, value = jnp.split(dense(3 * width)(norm(x)), 3, axis=-1)
        heads = (*batch, length, self.heads, width // self.heads)
        attended = jax.nn.dot_product_attention(*(a.reshape(heads) for a in (query, key, value)), is_causal=True)
        x += dense(width)(attended.reshape(x.shape))
        return x + dense(width)(nn.gelu(dense(4 * width)(norm(x))))


class Transformer(nn.Module):
    """Logits of the next character. `dtype` is that of the activations, `param_dtype` that of the parameters."""

    vocabulary: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, tokens):
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Embed(self.vocabulary, self.width, **dtypes)(tokens)
        x += nn.Embed(CONTEXT, self.width, **dtypes)(jnp.arange(tokens.shape[-1]))[None]
        for _ in range(self.layers):
            x = Block(self.heads, **dtypes)(x)
        return nn.Dense(self.vocabulary, **dtypes)(nn.LayerNorm(**dtypes)(x))


def load():
    """``(train, validation, vocabulary)``: characters as integers, the last tenth apart, and how many there are."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet, tokens = np.unique(list(text), return_inverse=True)
    tokens = tokens.astype(np.int32)
    return *np.split(tokens, [len(tokens) * 9 // 10]), len(alphabet)


def batch_at(step, tokens, batch_size):
    """Random windows of one character more than the context."""
    starts = np.random.default_rng(step).integers(len(tokens) - CONTEXT, size=(batch_size, 1))
    return tokens[starts + np.arange(CONTEXT + 1)[None]]


def make_loss(model):
    """The mean cross-entropy per character, in float32 whatever the dtype of the model."""

    def loss_fn(params, windows):
        logits = model.apply(params, windows[:, :-1]).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean()

    return loss_fn


def part(params):
    """The name of the optimizer of each leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "adamw" if path[-1].key == "embedding" else "adahessian", params
    )


def partitioned(steps):
    """The optimizer: the recommended call for the blocks, with one second moment for each output, and AdamW."""

    def schedule(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 5, steps)

    rows = oah.SpatialAverage.rows("HWIO")
    momentum = oah.adaptive_nesterov(accumulator_dtype=jnp.float32)
    rule = oah.adahessian(schedule(0.15), b1=0, b2=0.98, eps=1e-8, spatial_average=rows)
    adahessian = optax.chain(momentum, rule, optax.clip(0.01))
    return optax.partition({"adahessian": adahessian, "adamw": optax.adamw(schedule(0.006), b2=0.98)}, part)


def train(loss_fn, tx, params, tokens, steps, batch_size=16, update_interval=10):
    """Trains with a progress bar. Returns parameters and state."""
    estimate = oah.value_grad_and_hessian_diag(loss_fn)

    @jax.jit
    def step(params, opt_state, key, windows):
        loss, grads, hessian_diag = estimate(key, params, windows)
        updates, opt_state = tx.update(grads, opt_state, params, hessian_diag=hessian_diag)
        return optax.apply_updates(params, updates), opt_state, loss

    key, opt_state = jax.random.key(1), tx.init(params)
    for either in (key, None):  # compiled before the bar starts to estimate the remaining time
        step.lower(params, opt_state, either, batch_at(0, tokens, batch_size)).compile()
    progress = tqdm(range(steps), unit="step")
    for t in progress:
        due = oah.refresh_key(key, t, update_interval)
        params, opt_state, loss = step(params, opt_state, due, batch_at(t, tokens, batch_size))
        if t % 20 == 0:
            progress.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
    return params, opt_state


def evaluate(loss_fn, params, tokens):
    """The mean loss per character over all windows of a text, in turn."""
    windows = tokens[: len(tokens) - 1 - (len(tokens) - 1) % CONTEXT]
    windows = np.column_stack([windows.reshape(-1, CONTEXT), tokens[CONTEXT : len(windows) + 1 : CONTEXT]])
    return float(jnp.mean(jax.lax.map(lambda w: loss_fn(params, w[None]), windows, batch_size=64)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive_int, default=400, help="training steps (%(default)s)")
    add("--width", type=positive_int, default=64, help="width of the model, a multiple of 4 (%(default)s)")
    add("--layers", type=positive_int, default=2, help="blocks of the model (%(default)s)")
    add("--dtype", choices=DTYPES, default="float32", help="dtype of the activations (%(default)s)")
    add("--param-dtype", choices=DTYPES, default="float32", help="dtype of the parameters (%(default)s)")
    args = parser.parse_args(argv)
    if args.width % Transformer.heads:
        parser.error(f"--width (={args.width}) must be divisible by {Transformer.heads}, the number of heads")

    train_tokens, validation_tokens, vocabulary = load()
    model = Transformer(vocabulary, args.width, args.layers, dtype=args.dtype, param_dtype=args.param_dtype)
    params = jax.jit(model.init)(jax.random.key(0), train_tokens[None, :CONTEXT])
    loss_fn = make_loss(model)
    params, _ = train(loss_fn, partitioned(args.steps), params, train_tokens, args.steps)
    loss = evaluate(loss_fn, params, validation_tokens)
    print(
        f"{args.steps} steps, activations in {args.dtype}, parameters in {args.param_dtype}: "
        f"validation loss {loss:.4f} per character"
    )


if __name__ == "__main__":
    main()
