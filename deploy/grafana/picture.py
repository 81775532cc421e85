"""A picture of the dashboard's panels without Grafana: `python deploy/grafana/picture.py HOST:PORT out.png`.

It sends each panel's queries to a running Prometheus, draws the lines as SVG, and prints the page with
chromium. Panels without data are left out. The picture is for documents where no Grafana can be installed. It
looks like the dashboard, but Grafana did not draw it. A panel has the nine lines that are highest at the end.
"""

import html
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

DASHBOARD = Path(__file__).with_name("dashboards") / "cesta.json"
MINUTES = 3
WIDTH, HEIGHT = 400, 130  # of a panel's drawing, in pixels
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642")
TIMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))  # seconds of each unit
SCALES = {
    "percentunit": (100, "%"),
    "bytes": (2**-30, "GiB"),
    "reqps": (1, "/s"),
    "µs": (1e-3, "ms"),
}
STYLE = """
body { background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 12px; width: 1290px }
h2 { font-size: 14px; margin: 14px 0 6px; font-weight: 500 }
section { display: flex; flex-wrap: wrap; gap: 10px }
figure { background: #181b1f; margin: 0; padding: 8px; width: 404px }
figcaption { margin-bottom: 4px } span { margin-right: 10px; white-space: nowrap }
text { fill: #8e8e9c; font-size: 10px }
"""


def main(prometheus: str, out: str) -> None:
    """Draw the last MINUTES of `prometheus` into the png `out`."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    parts: list[str] = []
    for panel in panels:
        if panel["type"] == "row":
            parts.append(f"</section><h2>{html.escape(panel['title'])}</h2><section>")
        elif lines := _lines(prometheus, panel):
            parts.append(_figure(panel, lines))
    body = re.sub(r"<h2>[^<]*</h2><section></section>", "", f"<section>{''.join(parts)}</section>")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<meta charset=utf-8><style>{STYLE}</style>{body}", encoding="utf-8")
        height = 60 + sum(38 + 190 * -(-row.count("<figure>") // 3) for row in body.split("<h2>")[1:])
        subprocess.run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={folder}/profile",
                f"--window-size=1314,{height}",
                f"--screenshot={Path(out).resolve()}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )


def _lines(prometheus: str, panel: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return legend → points (time, value), without lines that have no number."""
    now, lines = time.time(), {}
    direct = build_opener(ProxyHandler({}))  # whatever the environment says
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", "20s")
        span = {"query": query, "start": now - 60 * MINUTES, "end": now, "step": 2}
        with direct.open(f"http://{prometheus}/api/v1/query_range?{urlencode(span)}", timeout=10) as answer:
            series = json.loads(answer.read())["data"]["result"]
        for line in series:
            legend = re.sub(
                r"{{(\w+)}}", lambda m, line=line: line["metric"].get(m[1], ""), target["legendFormat"]
            )
            points = [(float(t), float(v)) for t, v in line["values"] if v != "NaN"]
            if points:
                lines[legend] = points
    return lines


def _scale(unit: str, most: float) -> tuple[float, str]:
    """Return a factor and its unit; seconds become the largest unit of time that ``most`` reaches."""
    if unit == "s":
        length, name = next((time for time in TIMES if most >= time[0]), TIMES[-1])
        return 1 / length, name
    return SCALES.get(unit, (1, ""))


def _figure(panel: dict[str, Any], lines: dict[str, list[tuple[float, float]]]) -> str:
    lines = dict(sorted(lines.items(), key=lambda line: -line[1][-1][1])[: len(COLOURS)])
    most = max(v for points in lines.values() for _, v in points)
    factor, unit = _scale(panel["fieldConfig"]["defaults"]["unit"], most)
    top = most * factor * 1.1 or 1
    begin = min(t for points in lines.values() for t, _ in points)
    length = max(max(t for points in lines.values() for t, _ in points) - begin, 1)
    drawn, legend = [], []
    for i, (name, points) in enumerate(sorted(lines.items())):
        colour = COLOURS[i % len(COLOURS)]
        at = [(WIDTH * (t - begin) / length, HEIGHT * (1 - v * factor / top)) for t, v in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        drawn.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>")
        legend.append(f"<span style='color:{colour}'>{html.escape(name)} {points[-1][1] * factor:.3g}</span>")
    grid = "".join(
        f"<line x1='0' x2='{WIDTH}' y1='{y}' y2='{y}' stroke='#2a2d33'/>"
        f"<text x='2' y='{y + 10}'>{top * (1 - y / HEIGHT):.3g} {unit}</text>"
        for y in (0, HEIGHT // 2)
    )
    return (
        f"<figure><figcaption>{html.escape(panel['title'])}</figcaption>"
        f"<svg width='{WIDTH}' height='{HEIGHT}'>{grid}{''.join(drawn)}</svg>"
        f"<div>{' '.join(legend)}</div></figure>"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
