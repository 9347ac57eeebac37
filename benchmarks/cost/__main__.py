"""What AdaHessian costs next to other optimizers.

commands:
  steps        time, operations, compilation, memory and state of a step over AdamW's, for ours and its peers
  compile      CPU seconds and instructions against the number of leaves and the depth of a network
  large        the same as steps, at 1e7 and 1e8 parameters in few large leaves
  memory       temporary memory and operations of an estimate against its probes; states
  collectives  what data-parallel and fully sharded steps communicate on eight devices
  accelerators what the compilers of a TPU v5e and of an H100 make of a step
  pod          what a step of a large decoder needs on each of 256 TPU chips

Each prints its tables and whether the project's targets hold, and writes the raw measurements as JSON lines.

examples:
  python -m benchmarks.cost                          all of them, each in a process of its own
  python -m benchmarks.cost steps --models resnet20 --rows "ours*" --rounds 20
  python -m benchmarks.cost steps --from benchmarks/records/cost_steps.jsonl --publish
"""

import argparse
import fnmatch
import importlib
import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax

from benchmarks import command_line, machine, report
from benchmarks.timing import Plan

SMALL = ("mlp", "resnet20", "transformer")
LEAVES, LAYERS = [f"leaves_{n}" for n in (25, 50, 100, 200, 400)], [f"layers_{n}" for n in (2, 5, 10, 24)]
SIGNS = ("signs_512x200", "signs_40x2400", "signs_40x24")
COMMANDS = {  # the module, its models, and those of --quick
    "steps": ("steps", SMALL, SMALL[::2]),
    "compile": ("compilation", (*LEAVES, *LAYERS), (*LEAVES[:3], *LAYERS[:2])),
    "large": ("steps", ("1e7", "1e8"), ("1e6",)),
    "memory": ("memory", SMALL, SMALL[:1]),
    "collectives": ("collectives", ("net", "transformer", *SIGNS), ("net", *SIGNS[1:])),
    "accelerators": ("accelerators", SMALL, SMALL[:1]),
    "pod": ("pod", ("1.3e9", "7e9"), ("tiny",)),
}
PEERS = ("somax", "torch", "torch_optimizer", "pytorch_optimizer")
PACKAGES = {"accelerators": ("libtpu", "jax_cuda12_plugin", "somax"), "pod": ("libtpu",)}  # of others the peers


def main(arguments: list[str] | None = None) -> None:
    """Measures, or reads an earlier run; prints and writes tables and pictures."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "benchmarks.cost", command, *sys.argv[1:]], check=True)
        return
    if options.command == "collectives" and jax.config.jax_num_cpu_devices != 8:
        jax.config.update("jax_num_cpu_devices", 8)  # before anything starts the backend
    module = importlib.import_module(f"benchmarks.cost.{COMMANDS[options.command][0]}")
    name = f"cost_{options.command}"
    record = options.earlier or _measure(module, options, options.out / f"{name}.jsonl")
    run, *lines = map(json.loads, record.read_text().splitlines())
    parts = [f"{report.setting(run['machine'])}\n", *run["skipped"], module.tables(lines)]
    table = "\n".join([*parts, report.target_table(module.targets(lines))])
    pictures = {"cost_intervals": module.draw(lines)} if options.command == "steps" else {}
    command_line.write(options, name, record.read_text(), {name: table}, pictures)


def _measure(module: Any, options: argparse.Namespace, path: pathlib.Path) -> pathlib.Path:
    """Writes each measurement as it is made: a long run that is ended is not lost."""
    plan = Plan(rounds=3, block_seconds=0.05) if options.quick else Plan()
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    packages = PACKAGES.get(options.command, PEERS)
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    skipped = [f"Skipped: {name} is not installed (see benchmarks/README.md).\n" for name in missing]

    def keep(row: str) -> bool:
        return any(fnmatch.fnmatch(row, pattern) for pattern in options.rows)

    run = {"command": options.command, "machine": machine.describe(), "plan": plan._asdict(), "skipped": skipped}
    with path.open("w") as file:
        print(json.dumps(run), file=file, flush=True)
        for line in module.measure(options.models or COMMANDS[options.command][2 if options.quick else 1], keep, plan):
            print(json.dumps(line), file=file, flush=True)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("cost", __doc__)
    parser.add_argument("command", nargs="?", choices=COMMANDS, help="default: all")
    parser.add_argument("--models", nargs="+", help="models or sizes, named as in the record (default: all)")
    parser.add_argument("--rows", nargs="+", default=["*"], help="names or patterns (default: all)")
    parser.add_argument("--rounds", type=int, help=f"rounds of each row (default: {Plan().rounds})")
    parser.add_argument("--quick", action="store_true", help="the smaller models, and few short rounds")
    return parser


if __name__ == "__main__":
    main()
