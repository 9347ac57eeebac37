"""Stricter than use: eight CPU devices, rank promotion raises, every warning is an error (pyproject.toml)."""

import os

# Nearly all the time of the tests goes into compiling programs that run for milliseconds. This leaves out LLVM's
# optimizations, not those of XLA that the tests count on; it is read when JAX starts.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
