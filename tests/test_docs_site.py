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
PAGES = sorted(page.stem for page in DOCS.glob("*.md"))


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


def test_every_page_is_built_and_in_the_table_of_contents(site, pages) -> None:
    home = pages[site / "index.html"].links
    assert PAGES
    for name in PAGES:
        assert site / f"{name}.html" in pages
        assert name == "index" or f"{name}.html" in home


def test_links_lead_somewhere(site, pages) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target = urllib.parse.urlsplit(link)
            if target.scheme in ("http", "https", "mailto"):
                continue
            file = path.parent / target.path if target.path else path
            fragment = urllib.parse.unquote(target.fragment)
            known = not fragment or file not in pages or fragment in pages[file].ids
            if not file.is_file() or not known:
                broken.append((path.name, link))
    assert broken == []


def test_everything_loaded_is_in_the_site_and_images_have_a_text(site, pages) -> None:
    for path, page in pages.items():
        assert page.images_without_text == []
        for source in page.loaded:
            target = urllib.parse.urlsplit(source)
            assert not target.netloc, f"{path.name} loads {source} from elsewhere"
            assert (path.parent / target.path).is_file(), f"{path.name} lacks {source}"


def test_formulas_are_rendered_and_the_search_has_an_index(site) -> None:
    for name in ("api", "how_it_works"):
        text = (site / f"{name}.html").read_text()
        assert text.count("<math ") > 5
        assert "\\frac" not in text
        assert "<mi>&</mi>" not in text, "an environment that the converter does not know"
    assert "hutchinson" in (site / "searchindex.js").read_text()
