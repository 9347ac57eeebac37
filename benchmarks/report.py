"""Tables in Markdown, made from measurements."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

Line = dict[str, Any]  # one measurement, a line of a record


class Target(NamedTuple):
    """Something that must hold of a record; `measured` is None if the record does not have it."""

    what: str
    measured: float | None
    limit: float
    digits: int = 2


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers; nothing without rows."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" if len(lines) > 2 else ""


def pivot(title: str, lines: Sequence[Line], cell: Callable[[Line], str], column: str = "model") -> str:
    """A table of one cell for each row and model; a dash where there is no measurement."""
    columns = list(dict.fromkeys(line[column] for line in lines))
    rows = [
        [row, *(cell(found) if (found := find(lines, row=row, **{column: name})) else "-" for name in columns)]
        for row in dict.fromkeys(line["row"] for line in lines)
    ]
    return markdown([title, *map(str, columns)], rows)


def find(lines: Iterable[Line], **values: Any) -> Line:
    """The first measurement with these values, or an empty one."""
    return next((line for line in lines if all(line.get(k) == v for k, v in values.items())), {})


def number(value: float | None, digits: int = 2) -> str:
    """The number rounded, or a dash where there is none."""
    return "-" if value is None or value != value else f"{value:,.{digits}f}"


def over(numerator: float | None, denominator: float | None) -> float | None:
    """The quotient; None if one of the two was not measured."""
    return numerator / denominator if numerator is not None and denominator else None


def target_table(targets: Sequence[Target]) -> str:
    """Each target with what was measured, and whether it holds."""
    verdicts = ["-" if t.measured is None else "yes" if t.measured <= t.limit else "**no**" for t in targets]
    rows = [
        [target.what, number(target.measured, target.digits), number(target.limit, target.digits), verdict]
        for target, verdict in zip(targets, verdicts, strict=True)
    ]
    return markdown(("target", "measured", "at most", "holds"), rows)


def setting(where: dict[str, Any]) -> str:
    """One sentence on where and with what a record was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    devices = f"{where['cores']} cores of {where['processor']}; JAX on {', '.join(sorted(set(where['devices'])))}"
    return f"{devices}; load {where['load']:.1f} at the start; {versions}; commit {where['commit']}."
