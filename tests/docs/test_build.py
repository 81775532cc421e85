"""Links that the site's build accepts, and mistakes that stop it, each planted in a small repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from docs.site.build import build
from docs.site.pages import SiteError, read_pages

NAVIGATION = ["docs/index.md", {"Guide": ["docs/guide.md", "*/README.md"]}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two pages, a folder with a README, and a file that is no page."""
    settings = {"site_name": "shop", "use_directory_urls": False, "theme": {"font": False}, "extra_css": []}
    write(tmp_path, "docs/site/site.yml", yaml.safe_dump(settings | {"nav": NAVIGATION}))
    write(tmp_path, "docs/index.md", "# Home\n\n[guide](guide.md#stock)\n")
    write(
        tmp_path,
        "docs/guide.md",
        "# Guide\n\n## Stock\n\n[settings](../code/settings.toml), [code](../code)\n",
    )
    write(tmp_path, "code/README.md", "# Code\n\n[home](../README.md)\n")
    write(tmp_path, "code/settings.toml", "seed = 7\n")
    write(tmp_path, "README.md", "# shop\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def problems(root: Path) -> str:
    with pytest.raises(SiteError) as raised:
        build(root, root / "out" / "site")
    return str(raised.value)


def test_links_lead_to_pages_and_other_files_come_along(root: Path) -> None:
    """A link to a folder leads to its README's page. The repository's README is the home page."""
    build(root, root / "out" / "site")
    guide, code = ((root / "out" / "site" / name).read_text() for name in ("guide.html", "folders/code.html"))
    assert 'href="files/code/settings.toml.txt"' in guide
    assert 'href="folders/code.html"' in guide
    assert 'href="../index.html"' in code
    assert (root / "out" / "site" / "files" / "code" / "settings.toml.txt").read_text() == "seed = 7\n"


def test_code_keeps_what_looks_like_a_link(root: Path) -> None:
    write(root, "docs/guide.md", "# Guide\n\n## Stock\n\n`[a](b.md)`\n\n```\n[c](d.md)\n```\n")
    build(root, root / "out" / "site")
    text = (root / "out" / "site" / "guide.html").read_text()
    assert "[a](b.md)" in text
    assert "[c](d.md)" in text


def test_a_table_or_a_list_right_below_a_paragraph_is_one(root: Path) -> None:
    """GitHub shows it the same way."""
    write(
        root,
        "docs/guide.md",
        "# Guide\n\n## Stock\n\nPrices:\n| a | b |\n|---|---|\n| 1 | 2 |\n\nItems:\n- milk\n",
    )
    build(root, root / "out" / "site")
    text = (root / "out" / "site" / "guide.html").read_text()
    assert "<td>1</td>" in text
    assert "<li>milk</li>" in text


def test_a_link_to_nothing_stops_the_build(root: Path) -> None:
    write(root, "docs/index.md", "# Home\n\n[guide](guid.md)\n")
    assert problems(root) == "docs/index.md:3: links to guid.md, which does not exist"


def test_a_link_out_of_the_repository_stops_the_build(root: Path) -> None:
    write(root, "docs/index.md", "# Home\n\n[passwords](../../../etc/passwd)\n")
    assert "links to ../../../etc/passwd, which does not exist" in problems(root)


def test_a_link_to_a_missing_anchor_stops_the_build(root: Path) -> None:
    write(root, "docs/index.md", "# Home\n\n[guide](guide.md#prices)\n")
    assert "anchor does not exist" in problems(root)


def test_a_broken_link_in_raw_html_stops_the_build(root: Path) -> None:
    """The generator does not see the link; the check of the built pages does."""
    write(
        root,
        "docs/index.md",
        '# Home\n\n<a href="guid.html">guide</a> <a href="guide.html#prices">prices</a>\n',
    )
    assert problems(root).splitlines() == [
        "index.html: links to guid.html, which does not exist",
        "index.html: links to guide.html#prices, but that page has no such anchor",
    ]


def test_a_page_outside_the_navigation_stops_the_build(root: Path) -> None:
    write(root, "docs/more/prices.md", "# Prices\n")
    assert problems(root) == "docs/more/prices.md: not in the navigation of docs/site/site.yml"


def test_a_page_that_only_the_navigation_knows_stops_the_build(root: Path) -> None:
    (root / "docs" / "guide.md").unlink()
    assert problems(root) == "docs/site/site.yml: no file matches docs/guide.md"


@pytest.mark.parametrize(
    "planted",
    [
        "![milk](https://shop.example/milk.png)",
        '<script src="//shop.example/code.js"></script>',
        '<style>@import "https://shop.example/style.css";</style>',
        '<p style="background: url(https://shop.example/milk.png)">milk</p>',
    ],
)
def test_a_resource_of_another_host_stops_the_build(root: Path, planted: str) -> None:
    write(root, "docs/index.md", f"# Home\n\n{planted}\n\n[a link to it](https://shop.example) is none\n")
    assert "from another host" in problems(root)
    assert "index.html" in problems(root)


def test_a_failed_build_leaves_the_previous_site(root: Path) -> None:
    build(root, root / "out" / "site")
    write(root, "docs/index.md", "# Home\n\n[guide](guid.md)\n")
    problems(root)
    assert [path.name for path in (root / "out").iterdir()] == ["site"]
    assert (root / "out" / "site" / "guide.html").exists()


def test_two_files_of_one_page_stop_the_build(root: Path) -> None:
    """The generator would drop one of them without a word."""
    write(root, "docs/guide/README.md", "# Another guide\n")
    with pytest.raises(SiteError, match=r"another file has its page, guide\.md"):
        read_pages(root, ["docs/index.md", "docs/guide.md", "docs/guide/README.md"])
