"""Devices that are not there: XLA compiles for them with their own compilers, on any CPU.

A TPU needs libtpu (``pip install "jax[tpu]"``), a GPU the plugin for CUDA (``pip install "jax[cuda12]"``). Import this
module before anything starts JAX's runtime, which then stays on the CPU.
"""

import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies

PACKAGES = {"v5e": "libtpu", "H100": "jax_cuda12_plugin"}
SHAPES = {"v5e": "2x2", "H100": "1x1x4"}  # of four devices in one machine

jax.config.update("jax_platforms", "cpu")
os.environ |= {  # what libtpu asks its machine for; no chip is locked
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Without a GPU nothing can be tried for the fastest kernel.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 79100000000 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def is_installed(name: str) -> bool:
    """Whether the compiler of "v5e" or "H100" is there."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def devices(name: str, shape: str | None = None) -> list[Any]:
    """A v5e slice or H100s of the SXM form in this shape, else four of them."""
    jax.devices()  # registers the plugins
    shape = shape or SHAPES[name]
    if name == "H100":
        found = topologies.get_topology_desc("", "cuda", topology=shape, target_config=_H100)
    else:
        found = topologies.get_topology_desc(f"{name}:{shape}", "tpu")
    return list(found.devices)


def placed(tree: Any, sharding: Any) -> Any:
    """The shapes of a tree on such devices."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
