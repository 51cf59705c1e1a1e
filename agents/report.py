"""Reports for people: one HTML page that needs nothing else, built from sections of text, a figure and a table."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.figures import inline, png, svg
from baselines.certificate import write_text
from v2g_env import __version__
from v2g_env.core.validate import require

if TYPE_CHECKING:
    from agents.compare import Comparison

__all__ = ["Section", "write_report", "write_study_report"]

_UNITS = {"usd": "$", "kwh": "kWh", "kw": "kW", "h": "h", "us": "µs", "s": "s", "percent": "%"}
_NUMBER = re.compile(r"[-−+±≤]?\s?[\d∞]")


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: heading; also names the figure's file, so titles differ within a report.
        text: explanation. A blank line starts a new paragraph, "- " a list item, backquotes enclose code.
        rows: the table, all rows with the same keys, which become the headings; [] for none.
        draw: draws the figure on matplotlib axes; None for none.
        size: width and height of the figure [inch].
        marks: class of emphasised rows by index, "agent" or "bound".
    """

    title: str
    text: str
    rows: Sequence[Mapping[str, Any]]
    draw: Callable[[Any], None] | None = None
    size: tuple[float, float] = (8.6, 3.8)
    marks: Mapping[int, str] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The title in characters that any file system and address takes."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


class _Block(NamedTuple):
    text: str
    bullets: tuple[str, ...]


class _Column(NamedTuple):
    heading: str
    kind: str  # the class of its cells: "number", "short" or ""


class _Line(NamedTuple):
    cells: list[str]
    mark: str


def _flow(text: str) -> str:
    """One line; spaces that must not break stay."""
    return re.sub(r"[ \t\n]+", " ", text)


def _blocks(text: str) -> list[_Block]:
    """Paragraphs and lists of a text."""
    blocks = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.startswith("- "):
            items = re.split(r"\n- ", part[2:])
            blocks.append(_Block("", tuple(_flow(item) for item in items)))
        elif part:
            blocks.append(_Block(_flow(part), ()))
    return blocks


def _heading(key: str) -> str:
    """Key of a row as a heading: "earned_usd" becomes "earned [$]"; keys with spaces stay as they are."""
    *words, last = key.split("_")
    return f"{' '.join(words)} [{_UNITS[last]}]" if words and last in _UNITS else key.replace("_", " ")


def cell(value: Any) -> str:
    """A value of a table as text: four significant digits, a dash for what is missing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
        return f"{value:.4g}".replace("-", "−") if abs(value) < 1e4 or value >= 1e9 else f"{value:.0f}"
    return str(value)


def _kind(texts: Sequence[str]) -> str:
    if all(text == "–" or _NUMBER.match(text) for text in texts):
        return "number"
    return "short" if max(map(len, texts)) <= 32 else ""


def _part(section: Section, out: Path) -> dict[str, Any]:
    """A section as the template wants it; its figure is written on the way."""
    keys = list(section.rows[0]) if section.rows else []
    for row in section.rows:
        require(list(row) == keys, f"columns of {section.title!r}", list(row), str(keys))
    cells = [[cell(row[key]) for key in keys] for row in section.rows]
    columns = [_Column(_heading(key), _kind(texts)) for key, texts in zip(keys, zip(*cells, strict=True), strict=True)]
    picture = ""
    if section.draw is not None:
        from markupsafe import Markup

        document = svg(section.draw, section.size, section.slug)
        write_text(out / "figures" / f"{section.slug}.svg", document)
        picture = Markup(inline(document, section.title))  # made by matplotlib, which escapes its texts
    return {
        "title": section.title,
        "slug": section.slug,
        "blocks": _blocks(section.text),
        "columns": columns,
        "rows": [_Line(texts, section.marks.get(i, "")) for i, texts in enumerate(cells)],
        "svg": picture,
    }


def _code(text: str) -> Any:
    """Escape a text and set what stands in backquotes as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _write(title: str, lead: str, sections: Sequence[Section], out: Path) -> Path:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    slugs = [section.slug for section in sections]
    require(len(set(slugs)) == len(slugs), "titles of sections", slugs, "different titles")
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["inline"] = _code
    parts = [_part(section, out) for section in sections]
    footer = f"Made by v2g-env {__version__}. Figures are also in the folder figures."
    html = page.get_template("report.html").render(title=title, lead=lead, parts=parts, footer=footer)
    write_text(out / "report.html", html)
    return out / "report.html"


def write_study_report(
    sections: Sequence[Section],
    out: Path,
    title: str = "What the certificates promise, and what is observed",
    lead: str = "Each section varies one thing. The tables are also there as CSV files.",
) -> Path:
    """Write ``out``/report.html and ``out``/figures/*.svg from the sections of a study.

    Returns:
        Path of the page.

    Raises:
        InvalidInputError: if two titles are the same, or the rows of a table have different keys.
    """
    return _write(title, lead, sections, Path(out))


def write_report(comparison: Comparison, out: Path) -> Path:
    """Write ``out``/report.html, ``out``/figures/*.svg and ``out``/figures/comparison.png for a comparison.

    Returns:
        Path of the page.
    """
    from agents.compare_figures import panels

    words = importlib.import_module(f"agents.{comparison.meta['problem']}_report")
    out = Path(out)
    draws, titles, size = panels(comparison)
    png(draws, titles, size, out / "figures" / "comparison.png")
    return _write(words.TITLE, words.LEAD, words.sections(comparison), out)
