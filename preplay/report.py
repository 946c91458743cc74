"""A report that is one file: picture, tables, videos and manifest inside an HTML page.

The page's frame and its films are here for every report; `page` is the demo's.
"""

import base64
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from agent.files import write_atomically
from preplay.actors import POLICY, RANDOM
from preplay.text import file_name, interval_text

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1d2733; background: #f6f7f9;
       margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -0.02em; }
h2 { font-size: 21px; margin: 44px 0 10px; }
p { margin: 6px 0 14px; max-width: 46em; }
.card { background: #fff; border: 1px solid #e3e7ec; border-radius: 10px; padding: 18px; }
.card img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; background: #fff; font-variant-numeric: tabular-nums; font-size: 15px; }
th { text-align: right; font-weight: 600; color: #5a6675; font-size: 13.5px; }
td, th { padding: 7px 10px; border-bottom: 1px solid #edf0f3; }
td { text-align: right; }
td.name, th.name { text-align: left; }
td.each { font-size: 13px; color: #5a6675; }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 14px; margin-top: 14px; }
figure { margin: 0; background: #fff; border: 1px solid #e3e7ec; border-radius: 10px; overflow: hidden; }
figure video { width: 100%; display: block; background: #10151c; }
figcaption { padding: 8px 12px; font-size: 14px; }
figcaption b { float: right; font-variant-numeric: tabular-nums; }
pre { font-size: 13px; background: #fff; border: 1px solid #e3e7ec; border-radius: 10px; padding: 14px;
      white-space: pre-wrap; }
footer { color: #5a6675; font-size: 14px; margin-top: 36px; }
"""


def write_report(folder: Path, report: dict[str, Any], labels: dict[str, str]) -> None:
    """Writes `report.html` beside the picture and the videos that it takes in.

    Args:
        folder: holds `returns.png` and `videos/TASK-PLANNER.mp4`.
        report: what `preplay demo` found.
        labels: what a planner is called.
    """
    write_atomically(folder / "report.html", page(folder, report, labels).encode())


def page(folder: Path, report: dict[str, Any], labels: dict[str, str]) -> str:
    """The page's text."""
    tasks, origin = report["tasks"], report["provenance"]
    picture = data((folder / "returns.png").read_bytes(), "image/png")
    last = report["seed"] + report["episodes"] - 1
    sections = "".join(_task(folder, task, rows, labels, bool(report["without_films"])) for task, rows in tasks.items())
    manifest = {key: report[key] for key in ("seed", "episodes", "workers", "seconds", "weights")} | origin
    return document(
        f"preplay: {', '.join(tasks)}",
        f"""<h1>preplay: planned episodes beside their controls</h1>
<p>Each task is played from the same {report["episodes"]} starting states (seeds {report["seed"]} to {last}) by the same
trained agent: {escape(_ways(next(iter(tasks.values())), labels))}. All episodes are counted.</p>
<p>{escape(report["without_films"])}</p>
<div class="card"><img alt="Returns of every task and planner" src="{picture}"></div>
{sections}
<h2>Where this comes from</h2>
<pre>{escape(json.dumps(manifest, indent=2))}</pre>
<footer>Intervals are 95 % percentile-bootstrap intervals of the mean over episodes; they speak of the starting states,
not of training again with another seed. Milliseconds were taken while {report["workers"]}
{"processes" if report["workers"] > 1 else "process"} played side by side.</footer>""",
    )


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        style: more rules, after the common ones.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def film(file: Path, who: str, figure: str) -> str:
    """A video as HTML, its bytes inside, with a caption and a figure beside it; nothing where there is no such file."""
    if not file.exists():
        return ""
    return (
        f'<figure><video autoplay loop muted playsinline controls src="{data(file.read_bytes(), "video/mp4")}"></video>'
        f"<figcaption>{escape(who)}<b>{escape(figure)}</b></figcaption></figure>"
    )


def data(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them, for an attribute `src`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _ways(rows: Iterable[str], labels: dict[str, str]) -> str:
    """How an agent's actions were chosen."""
    names = list(rows)
    searching = " and ".join(labels.get(name, name) for name in names if name not in (POLICY, RANDOM))
    ways = {
        f"with {searching}, searching in its latent world model": bool(searching),
        "with its policy prior alone": POLICY in names,
        "as the floor, with random actions": RANDOM in names,
    }
    return "; ".join(way for way, taken in ways.items() if taken)


def _task(folder: Path, task: str, rows: dict[str, Any], labels: dict[str, str], unseen: bool) -> str:
    # Where nothing was filmed, what lies in the folder is of another run.
    films = "" if unseen else "".join(_film(folder, task, name, row, labels) for name, row in rows.items())
    lines = "".join(_row(name, row, labels) for name, row in rows.items())
    return f"""
<h2>{escape(task)}</h2>
<table>
<tr><th class="name">actions by</th><th>mean return</th><th>95 % interval</th><th>gained over the prior</th>
<th>ms a decision, p50 / p95 / p99</th><th>each episode</th></tr>
{lines}</table>
<div class="films">{films}</div>
"""


def _row(name: str, row: dict[str, Any], labels: dict[str, str]) -> str:
    gain = "–"
    if row["over_policy"]:
        mean, (low, high) = row["over_policy"]["mean"], row["over_policy"]["interval"]
        gain = f"{mean:+.0f}" + ("" if low is None else f" ({low:+.0f} to {high:+.0f})")
    interval = interval_text(row["interval"])
    milliseconds = " / ".join(f"{x:.1f}" for x in row["milliseconds"].values())
    each = " ".join(f"{x:.0f}" for x in row["returns"])
    cells = f"<td>{row['mean_return']:.1f}</td><td>{interval}</td><td>{gain}</td><td>{milliseconds}</td>"
    return f'<tr><td class="name">{escape(labels.get(name, name))}</td>{cells}<td class="each">{each}</td></tr>\n'


def _film(folder: Path, task: str, name: str, row: dict[str, Any], labels: dict[str, str]) -> str:
    file = folder / "videos" / f"{file_name(task)}-{name}.mp4"
    return film(file, labels.get(name, name), f"{row['returns'][0]:.0f}")
