"""The course of a run as inline SVG: loss, score, forgetting, learning rate.

Fonts stay text, the ground is transparent and the ink is the text colour of the page, so that one
drawing serves light, dark and paper. The same events give the same bytes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import StringIO
from math import isfinite
from re import sub
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""A colour no one uses; it becomes `currentColor` in the SVG."""

BLUE, ORANGE, GREEN, RED = "#4285c8", "#d9822b", "#2f9e6e", "#d5545c"
"""Mid-tones: a contrast of at least 3 to 1 on white and on near-black."""

SERIES = (GREEN, BLUE, ORANGE, RED)

MAX_POINTS = 400
"""Of one line; more steps are averaged in equal groups."""

SMOOTHED_SHARE = 1 / 16
"""Part of a line that each point of the smoothed one is the mean of."""

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing.

    Attributes:
        title: Heading, with the unit.
        svg: An `<svg>` element that takes the width of its container.
    """

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Span:
    """The steps that every plot of a run shows, so that they can be compared.

    Attributes:
        last: The last step; the first is 0.
        best: The step that is marked; None when there is none.
    """

    last: int
    best: int | None


def plots(material: Material) -> list[Plot]:
    """The drawings that the events have data for, in reading order."""
    timeline = material.timeline
    best = (material.report.get("checkpoint") or {}).get("best_step")
    steps = [record["step"] for record in (*timeline.steps, *timeline.evaluations)]
    span = Span(max(steps, default=0), best)
    accepted = [step for step in timeline.steps if not step["rejected"] and _finite(step["loss"])]
    made: list[Plot] = []
    if accepted:
        draw = _loss(accepted, timeline.steps, timeline.evaluations)
        by_row = (material.report.get("eval_loss") or {}).get("per") == "row"
        title = "Loss per row" if by_row else "Loss, in nats per trained token"
        made.append(_plot(title, draw, span))
    if scores := _scores(timeline.evaluations):
        made.append(_plot("Score, in percent", _score(scores), span))
    kl = [(each["step"], each["forgetting"]["kl"]) for each in _measured(timeline, "forgetting")]
    if len(kl) > 1:
        budget = (material.report.get("forgetting") or {}).get("budget")
        made.append(_plot("KL from the base, in nats per token", _forgetting(kl, budget), span))
    if accepted:
        made.append(_plot("Learning rate", _learning_rate(accepted), span))
    return made


def _measured(timeline: Any, key: str) -> list[Record]:
    return [record for record in timeline.evaluations if record.get(key) is not None]


def _finite(value: float | None) -> bool:
    return value is not None and isfinite(value)


def thinned(values: list[float]) -> list[float]:
    """The values averaged in groups of equal size, so that at most MAX_POINTS are left."""
    size = -(-len(values) // MAX_POINTS) or 1
    groups = (values[start : start + size] for start in range(0, len(values), size))
    return [sum(group) / len(group) for group in groups]


def smoothed(values: list[float]) -> list[float]:
    """The mean around each value: unlike a moving mean of the past, it does not lag behind."""
    reach = int(len(values) * SMOOTHED_SHARE / 2)

    def around(at: int) -> list[float]:
        # The window shrinks towards the ends, alike on both sides.
        near = min(reach, at, len(values) - 1 - at)
        return values[at - near : at + near + 1]

    return [sum(near) / len(near) for near in map(around, range(len(values)))]


def _scores(evaluations: list[Record]) -> dict[str, list[tuple[int, float]]]:
    """Name of each task -> its (step, score); only tasks that were scored more than once."""
    scores: dict[str, list[tuple[int, float]]] = {}
    for record in evaluations:
        for task in record["tasks"]:
            scores.setdefault(task["name"], []).append((record["step"], task["score"]))
    return {name: course for name, course in scores.items() if len(course) > 1}


def _loss(accepted: list[Record], steps: list[Record], evaluations: list[Record]) -> Any:
    def draw(axes: "Axes") -> None:
        at = thinned([float(step["step"]) for step in accepted])
        raw = thinned([step["loss"] for step in accepted])
        axes.plot(at, raw, color=BLUE, alpha=0.35, linewidth=1)
        axes.plot(at, smoothed(raw), color=BLUE, label="training")
        held = [(each["step"], each["loss"]) for each in evaluations if _finite(each.get("loss"))]
        if held:
            line = {"color": ORANGE, "marker": "o", "markersize": 4, "label": "held out"}
            axes.plot(*zip(*held, strict=True), **line)
        rejected = [step["step"] for step in steps if step["rejected"]]
        if rejected:
            floor = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            mark = {"color": RED, "marker": "|", "linestyle": "none", "label": "rejected"}
            axes.plot(rejected, [0] * len(rejected), **mark, **floor)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", ncols=3)

    return draw


def _score(scores: dict[str, list[tuple[int, float]]]) -> Any:
    def draw(axes: "Axes") -> None:
        for index, (name, course) in enumerate(scores.items()):
            at, shares = zip(*course, strict=True)
            percents = [100 * share for share in shares]
            label = printable(name).replace("\n", " ")
            # A label that begins with an underscore would be left out of the legend.
            label = f" {label}" if label.startswith("_") else label
            line = {"color": SERIES[index % len(SERIES)], "marker": "o", "markersize": 4}
            axes.plot(at, percents, label=label[:40], **line)
        axes.set_ylim(-3, 103)
        axes.set_yticks(range(0, 101, 25))
        if len(scores) > 1:
            axes.legend(loc="lower right")

    return draw


def _forgetting(course: list[tuple[int, float]], budget: float | None) -> Any:
    def draw(axes: "Axes") -> None:
        at, kl = zip(*course, strict=True)
        axes.plot(at, kl, color=ORANGE, marker="o", markersize=4)
        top = max(*kl, budget or 0)
        axes.set_ylim(-0.03 * top, 1.15 * top or 1)
        if budget is not None:
            axes.axhline(budget, color=RED, linewidth=1.2, linestyle=(0, (4, 3)))
            place = {"xytext": (0, 4), "textcoords": "offset points", "color": RED, "fontsize": 9}
            axes.annotate(f"budget {budget:g}", (at[0], budget), **place)

    return draw


def _learning_rate(accepted: list[Record]) -> Any:
    def draw(axes: "Axes") -> None:
        at = thinned([float(step["step"]) for step in accepted])
        axes.plot(at, thinned([step["learning_rate"] for step in accepted]), color=GREEN)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.9f}".rstrip("0").rstrip("."))

    return draw


def _plot(title: str, draw: Callable[["Axes"], None], span: Span) -> Plot:
    """Draws one plot, with the best step marked."""
    # Matplotlib takes most of a second to load and nothing else of the room needs it; it also logs
    # the building of its font cache, which is no concern of the user.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    buffer = StringIO()
    with matplotlib.rc_context(), catch_warnings():
        simplefilter("ignore")  # a script that the measuring font lacks; the reader's has it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": title})
        figure = Figure(figsize=(5.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlim(-0.02 * span.last, 1.02 * span.last or 1)
        if span.best:
            axes.axvline(span.best, color=INK, alpha=0.35, linewidth=0.9, linestyle=(0, (1, 2)))
            above = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            axes.text(span.best, 1.01, "best", fontsize=9, alpha=0.75, **above)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Plot(title, _inlined(buffer.getvalue(), title))


def _inlined(svg: str, title: str) -> str:
    """The `<svg>` element alone: sized by its container, in the page's own font and ink."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = sub(r"font-family: [^;\"]*;? ?", "", svg)
    label = f'<svg role="img" aria-label="{escape(title)}" '
    return sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt" ?', rf"{label}\1", svg, count=1)
