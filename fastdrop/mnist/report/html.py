"""``report.html``: one file that needs nothing else, for the screen and for print."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .tables import Table

__all__ = ["Picture", "page"]

STYLE = """\
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
  max-width: 1120px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
p, li, figcaption { max-width: 78ch; }
.about { color: #555; margin-top: 0; }
.summary { border-left: 4px solid #0072b2; padding: .1rem 1rem; background: #f3f7fa; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; margin: .4rem 0 .8rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
thead th { border-bottom: 2px solid #777; vertical-align: bottom; }
th, td { padding: .28rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
tbody th, .words, thead th:first-child { text-align: left; font-weight: 400; }
tbody th { font-weight: 600; min-width: 8.5rem; }
td { white-space: nowrap; }
td.words { white-space: normal; }
td.words:last-child { min-width: 14rem; }
small { color: #666; }
figure { margin: 1.2rem 0 2rem; }
figure img { display: block; max-width: 100%; height: auto; border: 1px solid #e2e2e2; }
figcaption { font-size: .92rem; color: #444; margin-top: .4rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 7.5pt; }
  th, td { padding: 2pt 4pt; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  figure img { max-height: 148mm; width: auto; border: 0; }
  .scroll { overflow: visible; }
}
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes
    ----------
    file : str
        Its name.
    title, text, alt : str
        The heading, what stands under it, and what is told to those who cannot see it.
    content : bytes
        PNG.
    size : (int, int)
        Pixels, across and down.
    """

    file: str
    title: str
    text: str
    alt: str
    content: bytes
    size: tuple[int, int]

    def html(self) -> str:
        """Make a heading and a figure with the picture inside."""
        data = base64.b64encode(self.content).decode("ascii")
        wide, high = self.size
        return (
            f"<h2>{escape(self.title)}</h2>\n<figure>\n"
            f'<img src="data:image/png;base64,{data}" width="{wide}" height="{high}" alt="{escape(self.alt)}">\n'
            f"<figcaption>{escape(self.text)} <small>({escape(self.file)})</small></figcaption>\n</figure>"
        )


def _section(title: str, *content: str) -> str:
    return "\n".join([f"<h2>{escape(title)}</h2>", *content])


def _list(items: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"


def _table(table: Table) -> str:
    return f'<div class="scroll">\n{table.html()}\n</div>'


def page(
    *,
    title: str,
    about: str,
    source: str,
    summary: str,
    measured: Sequence[Table],
    notes: Sequence[str],
    compared: Table | None,
    limits: Sequence[str],
    pictures: Sequence[Picture],
    missing: Sequence[str],
    arms: Table,
    facts: dict[str, Any],
) -> str:
    """Put the report together; all texts are escaped."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="about">{escape(about)}.<br>Data: {escape(source)}</p>',
        f'<div class="summary"><p>{escape(summary)}</p></div>',
        _section("What was measured", *(_table(table) for table in measured), _list(notes)),
    ]
    if compared is not None:
        parts.append(_section("Which is better", _table(compared)))
    parts.append(_section("What this does not say", _list(limits)))
    parts += [picture.html() for picture in pictures]
    if missing:
        parts.append(_section("What is not here", _list(missing)))
    parts.append(_section("How it was run", _table(arms), _facts(facts)))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without this a browser asks the server, or the folder, for an icon.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _facts(facts: dict[str, Any]) -> str:
    lines = ["<dl>"]
    for name, value in facts.items():
        text = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
        shown = f"<code>{escape(text)}</code>" if name == "command" else escape(text)
        lines.append(f"<dt>{escape(name)}</dt><dd>{shown}</dd>")
    return "\n".join([*lines, "</dl>"])
