"""Tables in the pages of the documentation, where they are read."""

import pathlib
import re
from collections.abc import Mapping

DOCS = pathlib.Path(__file__).parents[1] / "docs"
MARKED = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The text of a page with each of these tables between its marks, `<!-- table: NAME -->` and `<!-- end -->`."""
    return MARKED.sub(lambda m: f"{m[1]}{m[2]}\n{tables[m[1]].strip()}\n\n" if m[1] in tables else m[0], text)


def publish(tables: Mapping[str, str]) -> None:
    """Writes each table into the page that has its marks."""
    pages = {path: path.read_text() for path in DOCS.rglob("*.md")}
    marked = {name for text in pages.values() for name, _ in MARKED.findall(text)}
    if missing := sorted(tables.keys() - marked):
        raise ValueError(f"No page has the marks of these tables: {', '.join(missing)}.")
    for path, text in pages.items():
        path.write_text(with_tables(text, tables))
