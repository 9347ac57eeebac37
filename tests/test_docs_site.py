"""The documentation site builds without a warning, and nothing in it leads nowhere or needs a network."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser

import pytest

pytestmark = pytest.mark.long
DOCS = pathlib.Path(__file__).parent.parent / "docs"


class Page(HTMLParser):
    """What a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []  # by the browser, without a click
        self.images_without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        if "src" in values:
            self.loaded.append(values["src"])
        if tag == "img" and not values.get("alt"):
            self.images_without_text.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: pathlib.Path) -> dict[pathlib.Path, Page]:
    return {path: Page(path.read_text()) for path in site.glob("*.html")}


def test_links_lead_somewhere_and_all_that_is_loaded_is_in_the_site(site, pages) -> None:
    assert {page.stem for page in DOCS.glob("*.md")} <= {path.stem for path in pages}
    broken = []
    for path, page in pages.items():
        assert page.images_without_text == []
        for link in [*page.links, *page.loaded]:
            target = urllib.parse.urlsplit(link)
            if link in page.links and target.scheme in ("http", "https", "mailto"):
                continue
            file = path.parent / target.path if target.path else path
            fragment = urllib.parse.unquote(target.fragment)
            known = not fragment or file not in pages or fragment in pages[file].ids
            if target.netloc or not file.is_file() or not known:
                broken.append((path.name, link))
    assert broken == []


def test_formulas_are_rendered_and_the_search_knows_what_people_look_for(site) -> None:
    for name in ("api", "how_it_works"):
        text = (site / f"{name}.html").read_text()
        assert text.count("<math ") > 5
        assert "\\frac" not in text
        assert "<mi>&</mi>" not in text, "an environment that the converter does not know"
    index = (site / "searchindex.js").read_text()
    for word in ("baselin", "gpu", "hutchinson", "instal", "learn"):  # stems
        assert f"{word}:" in index or f'"{word}":' in index, word
