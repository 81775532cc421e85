"""The built documentation site in a browser: pages load, and ask no other host for anything."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from docs.site.build import ROOT, build
from tests.running.browser import Browser, Visit, open_browser


class Handler(SimpleHTTPRequestHandler):
    """Serves with a policy that forbids other hosts: a request to one is an error in the page."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data: blob:")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address of the served site, on a port that the system chose."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def foreign(visit: Visit, address: str) -> list[str]:
    """Requests to other hosts."""
    return [url for url in visit.requests if not url.startswith((f"{address}/", "data:", f"blob:{address}/"))]


def test_every_page_of_the_documentation_is_in_the_site(site: Path) -> None:
    """One page for each Markdown file of docs/, the API and the client."""
    documents = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")}
    names = {name if name.name != "README.html" else name.parent.with_suffix(".html") for name in documents}
    names |= {Path("api.html"), Path("folders/client.html")}
    assert names <= {path.relative_to(site) for path in site.rglob("*.html")}


@pytest.mark.parametrize("floor", ["export_scripts", "operations", "ensemble"])
def test_the_drawing_of_the_floors_names_every_folder(floor: str) -> None:
    drawing = (ROOT / "docs" / "images" / "floors.svg").read_text(encoding="utf-8")
    folders = [path.parent.name for path in (ROOT / floor).glob("*/__init__.py")]
    assert folders
    assert [name for name in folders if f">{name}/<" not in drawing] == []


def test_no_page_asks_another_host_or_fails(site: Path, address: str, browser: Browser) -> None:
    """Fonts, icons, scripts and drawings come from the site; the console stays free of errors."""
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    assert "index.html" in pages
    for page in pages:
        visit = browser.open(f"{address}/{page}")
        assert f"{address}/{page}" in visit.requests
        assert (foreign(visit, address), visit.errors) == ([], []), page


def test_search_finds_a_page_without_another_host(address: str, browser: Browser) -> None:
    """The index and the worker of the search come from the site. The dialog lies in a shadow tree."""
    dialog = "[...document.querySelectorAll('div')].find(e => e.shadowRoot)?.shadowRoot"
    browser.open(f"{address}/index.html")
    browser.evaluate("document.querySelector('.md-search__button').click()")
    browser.wait_until(f"{dialog}?.activeElement?.tagName == 'INPUT'")
    browser.write("supervisor")
    visit = browser.wait_until(f"{dialog}.querySelectorAll('[role=listbox] a').length > 0")
    assert (foreign(visit, address), visit.errors) == ([], [])
