"""The report of a comparison: one HTML file with the picture, the table, who beats whom, films and the manifest."""

import json
from html import escape
from pathlib import Path
from typing import Any

from preplay.comparison.cells import UNBOUND_ITERATIONS, Cell
from preplay.comparison.words import figure_text, milliseconds_text, range_text, share_text
from preplay.report import data, document, film

# With more cells than this, only the best of each planner and model is filmed for the page.
MOST_FILMS = 12
_WIN, _EVEN, _LOSE = (92, 155, 208), (255, 255, 255), (243, 166, 84)
_STYLE = """
main { max-width: 1200px; }
table { font-size: 14.5px; }
th { font-size: 13px; line-height: 1.3; vertical-align: bottom; }
td, th { padding: 7px 9px; }
td.name small { display: block; color: #5a6675; font-size: 12.5px; line-height: 1.25; }
td { white-space: nowrap; }
td small.range { display: block; color: #5a6675; font-size: 12.5px; line-height: 1.25; }
tr.control td { background: #f9fafb; }
.wide { overflow-x: auto; }
table.beats { width: auto; }
table.beats td, table.beats th { text-align: center; padding: 5px 8px; border: 1px solid #fff; min-width: 42px; }
table.beats td.name { text-align: left; background: #f6f7f9; }
table.beats td small { display: block; font-size: 11px; line-height: 1.2; color: #3a4553; }
figcaption small { display: block; color: #5a6675; font-size: 12.5px; }
details { margin-top: 12px; }
summary { cursor: pointer; color: #12507b; }
"""


def page(found: dict[str, Any], drawn: bytes, films: Path) -> str:
    """The page's text.

    Args:
        found: of `results.summarise`, and why there are no films as `without_films`.
        drawn: the picture, a PNG of `picture.draw`.
        films: folder of the films, named by their cells.
    """
    rows, settings = found["rows"], found["settings"]
    last = found["seed"] + found["episodes"] - 1
    seeds = f"seed {last}" if found["episodes"] == 1 else f"seeds {found['seed']} to {last}"
    states = "starting state" if found["episodes"] == 1 else f"{found['episodes']} starting states"
    picture = data(drawn, "image/png")
    body = f"""<h1>preplay: planners compared on {escape(found["task"])}</h1>
<p>Every row is played from the same {states} ({seeds}), all of its episodes count, and the policy prior alone and
random actions are always among them.</p>
{_notes(found)}
<div class="card"><img alt="Mean return over milliseconds a decision" src="{picture}"></div>
<h2>All figures</h2>
{_table(rows, found["front"])}
{_explained(rows, found["discount"])}
<h2>Who beats whom</h2>
{_matrix(found)}
<h2>The first episode of each</h2>
{_films(found, films)}
<h2>Where this comes from</h2>
<pre>{escape(json.dumps({key: settings[key] for key in ("fixed", "sittings")}, indent=2))}</pre>
<details><summary>The SHA-256 of every episode: of its seed, actions and rewards</summary>
<pre>{escape(_digests(rows))}</pre></details>
<footer>{_footer(settings["sittings"])}</footer>"""
    return document(f"preplay: {found['task']}, planners compared", body, _STYLE)


def filmed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose films are shown: all, or the best of each planner and model where they are many. Rows come sorted."""
    if len(rows) <= MOST_FILMS:
        return rows
    best: dict[Any, dict[str, Any]] = {}
    for row in rows:
        best.setdefault((row["cell"]["planner"], row["cell"]["model"]), row)
    return list(best.values())


def _notes(found: dict[str, Any]) -> str:
    notes = [f"Left out: {name}: {reason}." for name, reason in found["left_out"].items()]
    notes += [
        f"Not shown: {name}, of which {played} of {found['episodes']} episodes are played."
        for name, played in found["unfinished"].items()
    ]
    if found["without_films"]:
        notes.append(found["without_films"])
    commits = {sitting["commit"] for sitting in found["settings"]["sittings"]}
    if len(commits) > 1:
        notes.append(f"Played in several sittings, at different commits: {', '.join(map(str, commits))}.")
    return "".join(f"<p>{escape(note)}</p>\n" for note in notes)


def _table(rows: list[dict[str, Any]], front: list[str]) -> str:
    heads = "".join(
        f"<th>{head}</th>"
        for head in (
            "mean return", "beats<br>the prior", "median ms<br>a decision", "candidates<br>a decision",
            "deadlines<br>missed", "change<br>of action", "saturated<br>actions", "predicted",
            "realised", "optimism", "correlation",
        )
    )  # fmt: skip
    lines = "".join(_row(i, row, row["name"] in front) for i, row in enumerate(rows, 1))
    return (
        f'<div class="wide"><table>\n<tr><th>#</th><th class="name">actions by</th>{heads}</tr>\n{lines}</table></div>'
    )


def _row(number: int, row: dict[str, Any], on_front: bool) -> str:
    cell = Cell(**row["cell"])
    over, promise = row["over_policy"], row["promise"]
    median, late = milliseconds_text(row)
    star = ' <span title="on the Pareto front">★</span>' if on_front else ""
    values = [
        _ranged(f"<b>{figure_text(row['mean_return'])}</b>", range_text(row["interval"], row["mean_return"])),
        "" if over is None else _ranged(share_text(over["probability"]), _shares(over["interval"])),
        _ranged(median, f"p95 {late}"),
        "" if cell.control else f"{row['candidates']:,.0f}",
        share_text(row["misses"]),
        f"{row['smoothness']:.2f}",
        share_text(row["saturated"]),
    ]
    if promise is None:
        values += [""] * 4
    else:
        correlation = promise["correlation"]
        values += [
            figure_text(promise["predicted"]),
            figure_text(promise["realised"]),
            _ranged(
                ("+" if promise["optimism"] > 0 else "") + figure_text(promise["optimism"]),
                range_text(promise["interval"], promise["optimism"]),
            ),
            "–" if correlation is None else f"{correlation:.2f}",
        ]
    who = f'<td class="name">{escape(cell.label)}{star}{_small(cell.setting)}</td>'
    kind = ' class="control"' if cell.control else ""
    return f"<tr{kind}><td>{number}</td>{who}{''.join(f'<td>{value}</td>' for value in values)}</tr>\n"


def _explained(rows: list[dict[str, Any]], discount: float) -> str:
    """What the columns mean, as far as they are used."""
    cells = [Cell(**row["cell"]) for row in rows]
    says = [
        "Rows are sorted by mean return, ★ marks the Pareto front of return against median time; small figures are "
        "95 % intervals. “Beats the prior” is the share of starting states from which the row returns more than the "
        "policy prior alone, ties counting half. “Change of action” is the mean absolute change of an action element, "
        "in [-1, 1], from one decision to the next; “saturated” are elements at their bounds.",
    ]
    if any(cell.terminal for cell in cells):
        says.append(
            "Predicted against realised asks whether a planner exploits its model: where plans end in a value "
            "function, the return that each plan promised is compared with the discounted return "
            f"({discount:g} a decision) that the rest of the episode then brought, over the first half of each episode "
            f"(over all of one that terminated); optimism is predicted less realised.{_cut(rows)}"
        )
    if any(cell.model and not cell.terminal for cell in cells):
        says.append(
            "Plans made in the simulator alone promise the undiscounted sum of rewards within their horizon, and are "
            "held to that; decisions whose horizon reaches beyond the time limit are left out."
        )
    if any(cell.timed for cell in cells):
        says.append(
            "With a budget in milliseconds the search goes on until the time is up, whatever the iterations (their "
            f"limit of {UNBOUND_ITERATIONS:,} doesn't bind), and a decision that took longer has missed its deadline. "
            "Such episodes depend on the machine's speed and on what else it did, so they can't be replayed exactly."
        )
    return "".join(f"<p>{escape(each)}</p>\n" for each in says)


def _cut(rows: list[dict[str, Any]]) -> str:
    """How much optimism the time limit alone explains."""
    cut = max((row["promise"]["cut"] for row in rows if row["promise"]), default=0.0)
    if cut < 0.0005:
        return ""
    return (
        f" Of an even stream of rewards the time limit cuts off {100 * cut:.1f} % of what such a plan is worth: by so "
        "much even a perfect model seems optimistic."
    )


def _matrix(found: dict[str, Any]) -> str:
    names, beats = found["matrix"]["names"], found["matrix"]["beats"]
    numbers = {row["name"]: i for i, row in enumerate(found["rows"], 1)}
    cells = {row["name"]: Cell(**row["cell"]) for row in found["rows"]}
    small = len(names) > 12
    heads = "".join(f'<th title="{escape(_title(cells[name]))}">{numbers[name]}</th>' for name in names)
    lines = []
    for i, name in enumerate(names):
        who = f'<td class="name">{numbers[name]}&ensp;{escape(cells[name].label)}{_small(cells[name].setting)}</td>'
        lines.append(f"<tr>{who}{''.join(_against(beats[i][j], small) for j in range(len(names)))}</tr>\n")
    few = f" These are the best {len(names)}." if len(names) < len(found["rows"]) else ""
    return (
        "<p>How probable it is that a row returns more than a column from the same starting state, in per cent, with "
        f"its 95 % interval (Wilson's); ties count half.{few}</p>\n"
        f'<div class="wide"><table class="beats">\n<tr><th class="name"></th>{heads}</tr>\n'
        f"{''.join(lines)}</table></div>"
    )


def _against(beaten: dict[str, Any] | None, small: bool) -> str:
    if beaten is None:
        return '<td style="background:#eef1f4"></td>'
    chance, interval = beaten["probability"], _shares(beaten["interval"])
    end = _WIN if chance > 0.5 else _LOSE
    far = abs(2 * chance - 1)
    colour = "#" + "".join(f"{round(a + (b - a) * far):02x}" for a, b in zip(_EVEN, end, strict=True))
    within = "" if small else f"<small>{interval}</small>"
    return f'<td style="background:{colour}" title="{interval}">{100 * chance:.0f}{within}</td>'


def _films(found: dict[str, Any], films: Path) -> str:
    shown = []
    for row in filmed(found["rows"]):
        cell = Cell(**row["cell"])
        # Where nothing can be filmed now, films of earlier commands are still films of these episodes.
        figure = film(films / f"{cell.file_name}.mp4", cell.label, figure_text(row["returns"][0]))
        shown.append(figure.replace("</b></figcaption>", f"</b>{_small(cell.setting)}</figcaption>"))
    few = "" if len(shown) == len(found["rows"]) else "<p>Of each planner and model, the best is shown.</p>\n"
    if not any(shown):
        return "<p>Nothing was filmed.</p>"
    return f'<p>Seed {found["seed"]}, with its return.</p>\n{few}<div class="films">{"".join(shown)}</div>'


def _digests(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        lines += [f"{digest}  {seed}  {row['name']}" for seed, digest in zip(row["seeds"], row["digests"], strict=True)]
    return "\n".join(lines)


def _footer(sittings: list[dict[str, Any]]) -> str:
    counts = sorted({sitting["workers"] for sitting in sittings})
    many = " or ".join(map(str, counts)) or "no"
    processes = "process" if counts == [1] else "processes"
    return (
        "Intervals are 95 % percentile-bootstrap intervals over episodes; they speak of the starting states, not of "
        f"training again with another seed. Milliseconds were taken while {many} {processes} played side by side; they "
        "are the time of the whole decision, encoding included. preplay verify plays episodes of this comparison again "
        "and compares their hashes; another processor may round differently."
    )


def _title(cell: Cell) -> str:
    return ", ".join(filter(None, (cell.label, cell.setting)))


def _ranged(value: str, interval: str) -> str:
    return f'{value}<small class="range">{interval}</small>'


def _shares(interval: list[float]) -> str:
    low, high = interval
    return f"{100 * low:.0f}–{100 * high:.0f}"


def _small(words: str) -> str:
    return f"<small>{escape(words)}</small>" if words else ""
