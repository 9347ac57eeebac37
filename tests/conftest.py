"""Stricter than use: eight CPU devices, rank promotion raises, every warning is an error (pyproject.toml)."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
