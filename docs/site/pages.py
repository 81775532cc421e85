"""The pages of the site: their files, and links that hold between them and the rest of the repository."""

import os.path
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from docs.site.api import api_page

API: Final = "docs/openapi.yaml"
FOLDERS: Final = "folders"  # folder of the site for the READMEs of the code's folders
FILES: Final = "files"  # folder of the site for linked files that are no pages
SHOWN: Final = {".html", ".jpeg", ".jpg", ".png", ".svg"}  # a browser shows these; others become text
HOME: Final = {"README.md": "index.md"}  # its text is the home page's; a link to one leads to the other

Pages = dict[str, str]  # path in the repository → path in the site
Entry: TypeAlias = "str | dict[str, str | Navigation]"
Navigation: TypeAlias = list[Entry]

# Code in fences and between backticks stays as it is; group "target" is a link's or an image's.
LINK: Final = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)|\]\((?P<target>[^)\s]+)",
    re.MULTILINE | re.DOTALL,
)
# A line of a paragraph, with a table or list below it. Lists continue below indented lines.
UNSEPARATED: Final = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)|^(?!\||[-*] |\d+\. |[\s#])[^\n]+\n(?=\||[-*] |\d+\. )",
    re.MULTILINE | re.DOTALL,
)
PATTERN: Final = re.compile(r"[*?\[]")
ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:|#")


class SiteError(Exception):
    """The site cannot be built; one sentence for each problem."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def read_pages(root: Path, nav: Navigation) -> tuple[Navigation, Pages]:
    """The navigation in the site's own paths, and all its pages. Raises SiteError for an incomplete one."""
    pages: Pages = {path: address(path) for path in _names(nav) if not PATTERN.search(path)}
    problems: list[str] = []
    navigation = list(_entries(root, nav, pages, problems))
    documents = {p.relative_to(root).as_posix() for p in (root / "docs").rglob("*.md")}
    missing = sorted(documents - set(pages))
    problems += [f"{path}: not in the navigation of docs/site/site.yml" for path in missing]
    files = Counter(pages.values())
    problems += [
        f"{path}: another file has its page, {page}" for path, page in pages.items() if files[page] > 1
    ]
    if problems:
        raise SiteError(problems)
    return navigation, pages


def _names(nav: Navigation) -> Iterator[str]:
    """All paths and patterns of the navigation."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from _names([below] if isinstance(below, str) else below)


def _entries(root: Path, nav: Navigation, pages: Pages, problems: list[str]) -> Iterator[Entry]:
    for entry in nav:
        if isinstance(entry, str):
            yield from _matches(root, entry, pages, problems)
            continue
        for title, below in entry.items():
            if isinstance(below, str):
                for page in _matches(root, below, pages, problems):
                    yield {title: page}
            else:
                yield {title: list(_entries(root, below, pages, problems))}


def _matches(root: Path, name: str, pages: Pages, problems: list[str]) -> Iterator[str]:
    """The page of a path, or the pages of a pattern that have no other place in the navigation."""
    paths = sorted(p.relative_to(root).as_posix() for p in root.glob(name))
    if not paths:
        problems.append(f"docs/site/site.yml: no file matches {name}")
    for path in paths:
        if path == name or path not in pages:
            pages[path] = address(path)
            yield pages[path]


def address(path: str) -> str:
    """The path of a file's page in the site.

    ``docs/`` is the top of the site. A folder's README is named after the folder, below ``folders/`` if the
    folder is one of the code's, since ``docs/operations.md`` and ``operations/README.md`` are two pages.
    """
    if path == API:
        return "api.md"
    name = path.removeprefix("docs/").removesuffix("/README.md").removesuffix(".md").lower()
    is_folder_of_code = path.endswith("/README.md") and not path.startswith("docs/")
    return f"{FOLDERS}/{name}.md" if is_folder_of_code else f"{name}.md"


def copy_pages(root: Path, pages: Pages, folder: Path) -> None:
    """Write the pages into ``folder``, with links that hold there, and every file that they link to."""
    problems: list[str] = []
    for path, page in pages.items():
        text = api_page(root / path) if path == API else (root / path).read_text(encoding="utf-8")
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _separated(_with_links(root, path, text, pages, folder, problems))
        target.write_text(text, encoding="utf-8")
    if problems:
        raise SiteError(problems)


def _with_links(root: Path, path: str, text: str, pages: Pages, folder: Path, problems: list[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        link = match["target"]
        if link is None or ELSEWHERE.match(link):
            return match[0]
        target, hash_, anchor = link.partition("#")
        linked = os.path.normpath(PurePosixPath(path).parent / target)
        others = {source: page for source, page in pages.items() if source != path}  # its own file is a file
        place = _place(root, linked, others, folder)
        if place is None:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: links to {link}, which does not exist")
            return match[0]
        return f"]({os.path.relpath(place, PurePosixPath(pages[path]).parent)}{hash_}{anchor}"

    return LINK.sub(replace, text)


def _place(root: Path, linked: str, pages: Pages, folder: Path) -> str | None:
    """The path of a repository's file in the site, copied there unless it is a page; None without one."""
    if (root / linked).is_dir():
        linked = f"{linked}/README.md"
    if page := HOME.get(linked, pages.get(linked)):
        return page
    if not (root / linked).is_file() or linked.startswith(".."):
        return None
    place = f"{FILES}/{linked}" if PurePosixPath(linked).suffix in SHOWN else f"{FILES}/{linked}.txt"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / linked, folder / place)
    return place


def _separated(text: str) -> str:
    """GitHub accepts a table or a list right below a paragraph. The generator needs an empty line there."""
    return UNSEPARATED.sub(lambda match: match[0] + "\n" if match["fence"] is None else match[0], text)
