"""Pictures as SVG, made here from numbers: coloured by the stylesheet, with nothing inline, and escaped throughout.

Each has a name for screen readers; the numbers themselves belong into a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

_WIDTH, _HEIGHT = 720.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 10.0, 24.0
_LINES = 4
_MOST_LABELS = 8
MOST_SERIES = 6
"""How many series a picture tells apart; the rest belongs together into the last one."""

Format = Callable[[float], str]
Point = tuple[datetime, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind over time, one for each interval of the picture."""

    name: str
    values: Sequence[float]
    tone: int = 0
    """Which of the six colours it has; 0: that of its place."""


def compact(value: float) -> str:
    """Return a number for an axis, such as `1.5k` or `2M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def columns(name: str, times: Sequence[str], series: Sequence[Series], show: Format = compact) -> Markup:
    """Return stacked columns, one for each time. `times` are the labels below them."""
    if not times:
        return Markup("")
    top = _ceiling(max((sum(one.values[place] for one in series) for place in range(len(times))), default=0.0))
    slot = (_WIDTH - _LEFT - _RIGHT) / len(times)
    width = max(slot * 0.7, 1.0)
    parts = [_grid(top, show)]
    for place, label in enumerate(times):
        base = 0.0
        x = _LEFT + place * slot + (slot - width) / 2
        for number, one in enumerate(series[:MOST_SERIES], start=1):
            value = one.values[place]
            if value > 0:
                upper, lower = _y(base + value, top), _y(base, top)
                parts.append(
                    Markup(
                        '<rect class="bar series-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                    ).format(
                        one.tone or number,
                        _n(x),
                        _n(upper),
                        _n(width),
                        _n(max(lower - upper, 0.5)),
                        f"{one.name}, {label}: {show(value)}",
                    )
                )
                base += value
    parts.append(_labels(times, slot))
    return _legend(series) + _picture(name, parts)


def burn_down(
    name: str,
    points: Sequence[Point],
    *,
    limit: float,
    start: datetime,
    end: datetime,
    exhausted: datetime | None = None,
    show: Format = compact,
) -> Markup:
    """Return what is left of a limit over its window: from all of it down to now, and on to where it runs out.

    `points` are times with what was spent until then, in their order.
    """
    if limit <= 0 or end <= start:
        return Markup("")
    top = _ceiling(limit)
    length = (end - start).total_seconds()

    def place(time: datetime, left: float) -> str:
        share = min(max((time - start).total_seconds() / length, 0.0), 1.0)
        return f"{_n(_LEFT + share * (_WIDTH - _LEFT - _RIGHT))},{_n(_y(max(left, 0.0), top))}"

    path = [place(start, limit), *(place(time, limit - spent) for time, spent in points)]
    parts = [_grid(top, show)]
    parts.append(Markup('<polyline class="line series-1" points="{}"/>').format(" ".join(path)))
    if points and exhausted is not None and start < exhausted:
        last = place(points[-1][0], limit - points[-1][1])
        parts.append(Markup('<polyline class="projected" points="{}"/>').format(f"{last} {place(exhausted, 0.0)}"))
    for time, x, anchor in ((start, _LEFT, "start"), (end, _WIDTH - _RIGHT, "end")):
        parts.append(_text(x, _HEIGHT - 6, f"{time:%m-%d %H:%M}", anchor))
    return _picture(name, parts)


def meter(spent: float, held: float, limit: float) -> Markup:
    """Return a small bar of what is spent and held of a limit."""
    whole = max(limit, 1.0)
    used = min(max(spent / whole, 0.0), 1.0) * 100
    holding = min(max(held / whole, 0.0) * 100, 100 - used)
    return Markup(
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="track" width="100" height="6" rx="3"/><rect class="spent" width="{}" height="6"/>'
        '<rect class="held" x="{}" width="{}" height="6"/></svg>'
    ).format(_n(used), _n(used), _n(holding))


def _picture(name: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _n(_WIDTH), _n(_HEIGHT), name, Markup("").join(parts)
    )


def _legend(series: Sequence[Series]) -> Markup:
    if len(series) < 2:
        return Markup("")
    entries = [
        Markup(
            '<li class="chart-key"><svg class="chart-dot" viewBox="0 0 10 10" aria-hidden="true">'
            '<rect class="bar series-{}" width="10" height="10" rx="2"/></svg>{}</li>'
        ).format(one.tone or number, one.name)
        for number, one in enumerate(series[:MOST_SERIES], start=1)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def _grid(top: float, show: Format) -> Markup:
    parts = []
    for step in range(_LINES + 1):
        value = top * step / _LINES
        y = _y(value, top)
        kind = "grid" if step else "axis"
        parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                kind, _n(_LEFT), _n(_WIDTH - _RIGHT), _n(y), _n(y)
            )
        )
        parts.append(_text(_LEFT - 8, y + 4, show(value), "end"))
    return Markup("").join(parts)


def _labels(times: Sequence[str], slot: float) -> Markup:
    every = math.ceil(len(times) / _MOST_LABELS)
    shown = [
        _text(_LEFT + (place + 0.5) * slot, _HEIGHT - 6, label, "middle")
        for place, label in enumerate(times)
        if place % every == 0
    ]
    return Markup("").join(shown)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(_n(x), _n(y), anchor, text)


def _y(value: float, top: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / top)


def _ceiling(value: float) -> float:
    """Return a round number that is not less."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 2.5, 5, 10) if step * size >= value)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
