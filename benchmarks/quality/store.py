"""Everything measured, as lines of JSON, so that a run that was ended goes on where it stopped."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

KEY = ("task", "optimizer", "settings", "seed", "steps", "purpose")  # of a run of training


def key_of(run: dict[str, Any]) -> str:
    """What a run is known by."""
    return json.dumps([run[name] for name in KEY], sort_keys=True)


class Store:
    """Records in a file; each is written when it is added."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            # A torn last line goes, or the next would be written behind it.
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self.records = read(path) if path.exists() else []

    def add(self, record: dict[str, Any]) -> None:
        """Writes a record."""
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind: "machine", "seconds" or "run"."""
        return [record for record in self.records if record["kind"] == kind]


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of all whole lines; the last is torn where the machine stopped in it."""
    *lines, torn = path.read_text().split("\n")
    del torn
    return [json.loads(line) for line in lines]
