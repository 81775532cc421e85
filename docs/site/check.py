"""Checks the built site: links and anchors lead somewhere, and no page asks another host for anything."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

RESOURCES: Final = {  # attributes whose address a browser fetches by itself
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
LINKS: Final = {"a": ("href",), "form": ("action",)}
IN_STYLES: Final = re.compile(r"""(?:url\(|@import)\s*['"]?(?:https?:)?//""")


@dataclass
class Page(HTMLParser):
    """The links of one page, and the anchors that others can link to."""

    text: str
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.links += [values[name] for name in LINKS.get(tag, ()) if name in values]
        if values.get("rel") != "canonical":
            self.resources += [values[name] for name in RESOURCES.get(tag, ()) if name in values]


def problems_of(site: Path) -> list[str]:
    """One sentence for each broken link or anchor, and for each resource of another host."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    return [*_broken(site, pages), *_foreign(site, pages)]


def _broken(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in dict.fromkeys([*page.links, *page.resources]):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if address.path.startswith("/"):  # the page for what is not there stands at any depth
                target = (site / unquote(address.path).lstrip("/")).resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: links to {link}, which does not exist"
            elif target in pages and unquote(address.fragment) not in pages[target].anchors | {""}:
                yield f"{name}: links to {link}, but that page has no such anchor"


def _foreign(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for resource in page.resources:
            if urlsplit(resource).netloc:
                yield f"{path.relative_to(site)}: fetches {resource} from another host"
    for path in sorted([*pages, *site.rglob("*.css"), *site.rglob("*.svg")]):
        if match := IN_STYLES.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: a style fetches from another host: {match[0]}…"
