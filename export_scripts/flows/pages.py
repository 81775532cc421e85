"""Artifacts of a run: the metrics as a table, each plot of a page as an image, and where the page lies."""

import base64
import json
import re
from pathlib import Path
from typing import Any, Final

from prefect.artifacts import acreate_image_artifact, acreate_markdown_artifact, acreate_table_artifact

MEASURED: Final = ("hr_at_10", "ndcg_at_10", "mrr")
KINDS: Final = ("known", "unknown")
SVG: Final = re.compile(r"<svg[^>]*>.*?</svg>", re.DOTALL)
BOX: Final = re.compile(r'viewBox="0 0 (\d+) (\d+)"')
LABEL: Final = re.compile(r'aria-label="([^"]*)"')
STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


async def show_metrics(path: Path) -> None:
    """Show the metrics of a build as a table. Prefect hides a column that has no name."""
    if not path.exists():
        return
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        {"customer": kind, **{key: metrics[kind].get(key) for key in MEASURED}}
        for kind in KINDS
        if isinstance(metrics.get(kind), dict)
    ]
    await acreate_table_artifact(rows, key="metrics", description=f"from {path}")


async def show_findings(findings: list[dict[str, Any]], key: str) -> None:
    """Show what `cesta drift` has compared, and what drifted first, as a table."""
    rows = [
        {
            "feature": finding["feature"],
            "window": finding["window"],
            "verdict": "DRIFT" if finding["drifted"] else "",
            "distance": round(finding["distance"], 3),
            "95 %": f"{finding['low']:.3f} to {finding['high']:.3f}",
            "threshold": round(finding["threshold"], 3),
            "changed most": _largest(finding["changes"]),
        }
        for finding in sorted(findings, key=lambda finding: not finding["drifted"])
    ]
    await acreate_table_artifact(rows, key=key, description="what is asked or sold now, beside the release")


async def show_page(path: Path, key: str) -> None:
    """Show each plot of an HTML page, and the place of the page, which holds its tables, too."""
    if not path.exists():
        return
    page = path.read_text(encoding="utf-8")
    await acreate_markdown_artifact(f"The whole page: `{path.resolve()}` on the worker's machine.", key=key)
    for number, (label, image) in enumerate(plots(page), start=1):
        await acreate_image_artifact(image, key=f"{key}-plot-{number}", description=label)


def _largest(changes: list[dict[str, Any]]) -> str:
    """The label whose share changed most: before → now."""
    if not changes:
        return ""
    most = max(changes, key=lambda change: abs(change["now"] - change["before"]))
    return f"{most['label']}: {most['before']:.1%} → {most['now']:.1%}"


def plots(page: str) -> list[tuple[str, str]]:
    """The SVG plots of an HTML page: label and data URL.

    Each has the page's style, so it stands alone, on a card of its own colour: Prefect's pages may be dark in
    a browser that prefers light ones. Numbers reach over the plot's edge, so it gets a margin.
    """
    style = "".join(STYLE.findall(page)) + "svg { background: var(--card) }"
    images = []
    for drawing in SVG.findall(page):
        label = LABEL.search(drawing)
        framed = BOX.sub(lambda box: f'viewBox="-10 -10 {int(box[1]) + 34} {int(box[2]) + 20}"', drawing, 1)
        opened = framed.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        alone = opened.replace(">", f"><style><![CDATA[{style}]]></style>", 1)
        encoded = base64.b64encode(alone.encode()).decode()
        images.append((label[1] if label else "", f"data:image/svg+xml;base64,{encoded}"))
    return images
