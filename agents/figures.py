"""Figures of reports: one style, and files whose bytes depend on the data alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baselines.certificate import write_bytes

__all__ = ["COLORS", "Draw", "inline", "png", "svg"]

Draw = Callable[[Any], None]  # receives matplotlib Axes

# Okabe and Ito's palette: told apart with any colour vision
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, INK, GREY = "#56B4E9", "#CC79A7", "#1f2933", "#8a94a0"
COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, INK, GREY)
_FONTS = ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"]


@contextmanager
def _style(salt: str) -> Iterator[Any]:
    """Pyplot's settings for the length of a figure; the caller's own settings return afterwards."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    settings = {
        "svg.hashsalt": f"v2g-env {salt}",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": _FONTS,
        "font.size": 9.0,
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e7eb",
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.6,
        "lines.markersize": 5.0,
        "legend.framealpha": 0.85,
        "legend.edgecolor": "none",
        "legend.fontsize": 8.5,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 0.0,
        "ytick.major.size": 0.0,
    }
    with mpl.rc_context():
        mpl.rcdefaults()  # the same figure, whatever the user's own settings are
        mpl.rcParams.update(settings)
        yield Figure


def svg(draw: Draw, size: tuple[float, float], salt: str) -> str:
    """Draw on fresh axes and return an SVG document.

    Args:
        draw: receives the axes.
        size: width and height [inch].
        salt: keeps the identifiers of different figures of one page apart.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with _style(salt) as figure_class:
        figure = figure_class(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        for second in figure.axes[1:]:
            second.grid(visible=False)  # one grid is enough where two axes share a frame
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return stream.getvalue().decode("utf-8")


def inline(document: str, label: str) -> str:
    """Turn an SVG document into an element for HTML: no prologue, no metadata, no unused identifiers."""
    from markupsafe import escape

    body = document[document.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", body)
    # the page's stylesheet decides the size; the view box keeps the proportions
    head, rest = body.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(label)}">{rest}'.strip()


def png(draws: Sequence[Draw], titles: Sequence[str], size: tuple[float, float], path: Path) -> None:
    """Draw panels side by side with a common vertical axis and write a PNG file, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _style(path.stem) as figure_class:
        figure = figure_class(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(draws), sharey=True, squeeze=False)[0]
        for panel, draw, title in zip(panels, draws, titles, strict=True):
            draw(panel)
            panel.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=44)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    write_bytes(path, stream.getvalue())
