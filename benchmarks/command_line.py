"""What the command lines of the benchmarks share: options, and where tables, pictures and records go."""

import argparse
import pathlib
from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import pages

ROOT = pathlib.Path(__file__).parents[1]


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of `python -m benchmarks.NAME`, with the options that all have."""
    prog, raw = f"python -m benchmarks.{name}", argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=raw)
    parser.add_argument("--out", type=_folder, default="out", help="folder (default: out)")
    parser.add_argument(
        "--from", dest="earlier", type=pathlib.Path, metavar="FILE", help="the record of an earlier run"
    )
    parser.add_argument(
        "--publish", action="store_true", help="also writes record, tables and pictures into the project"
    )
    return parser


def _folder(path: str) -> pathlib.Path:
    """It is there after this."""
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write(
    options: argparse.Namespace, name: str, record: str, tables: Mapping[str, str], pictures: Mapping[str, Figure]
) -> None:
    """Prints the tables; writes them and the pictures into --out, and with --publish all of it into the project."""
    print(*tables.values(), sep="\n\n")
    for table, text in tables.items():
        (options.out / f"{table}.md").write_text(text)
    folders = [options.out]
    if options.publish:
        pages.publish(tables)
        (ROOT / "benchmarks" / "records" / f"{name}.jsonl").write_text(record)
        folders.append(ROOT / "docs" / "images")
    for picture, figure in pictures.items():
        for folder in folders:
            figure.savefig(folder / f"{picture}.png", dpi=120, metadata={"Software": None})
