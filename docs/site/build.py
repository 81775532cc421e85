"""Repository → documentation site. Run: python -m docs.site.build

A page that the navigation misses, a page outside the navigation, a broken link or anchor, and a resource of
another host all stop the build. The site replaces the previous one only when it is whole.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import yaml

from docs.site.check import problems_of
from docs.site.pages import SiteError, copy_pages, read_pages

ROOT: Final = Path(__file__).resolve().parents[2]
SITE: Final = "docs/site"
COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def build(root: Path, out: Path) -> None:
    """Build the site of the repository at ``root`` into the folder ``out``.

    Raises SiteError, which lists what is broken; then ``out`` stays as it was.
    """
    config = yaml.safe_load((root / SITE / "site.yml").read_text(encoding="utf-8"))
    navigation, pages = read_pages(root, config["nav"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as scratch:
        folder = Path(scratch)
        copy_pages(root, pages, folder / "pages")
        for style in config["extra_css"]:
            shutil.copy2(root / SITE / style, folder / "pages" / style)
        config |= {"nav": navigation, "docs_dir": "pages", "site_dir": "site"}
        (folder / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        _generate(folder)
        if problems := problems_of(folder / "site"):
            raise SiteError(problems)
        shutil.rmtree(out, ignore_errors=True)
        (folder / "site").rename(out)


def _generate(folder: Path) -> None:
    """Run the generator on the pages in ``folder``; its warnings are errors."""
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise SiteError([COLOURS.sub("", done.stdout).partition("Traceback")[0].strip()])


def main() -> None:
    """Build into the folder named on the command line, by default ``artifacts/site``."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "artifacts" / "site"
    try:
        build(ROOT, out)
    except SiteError as error:
        sys.exit(f"the documentation site was not built:\n{error}")
    print(f"{out / 'index.html'}")


if __name__ == "__main__":
    main()
