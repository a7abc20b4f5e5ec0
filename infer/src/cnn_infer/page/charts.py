"""The geometry of line charts: from values to coordinates of an SVG image, which a template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 420, 270
"""Size of a chart, in units of its SVG image. A phone shows it at about three quarters of the size of its text."""

LEFT, RIGHT, TOP, BOTTOM = 46, 22, 30, 44
"""Margins around the plot, for the labels of the axes."""

MOST_POINTS = 240
"""A line with more points is thinned out: the screen does not show them."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis: its coordinate and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Its name in the legend; empty for a line without an entry.
        points: ``x,y`` pairs, as the attribute of an SVG ``polyline``.
        style: The class of CSS that draws it: ``first``, ``second`` or ``guide``.
        last: Coordinates of its last point.
    """

    name: str
    points: str
    style: str
    last: tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A point with its interval: coordinates of the point and of both ends."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """A chart with two axes, ready to be drawn.

    Attributes:
        name: Identifier of the chart on its page: letters and hyphens.
        title: What it shows.
        summary: What is to be seen, in one sentence, for readers who cannot see it.
        x_label, y_label: Names of the axes.
        x_ticks, y_ticks: Their ticks.
        lines, dots: What is drawn, in this order.
        mark: Horizontal coordinate and text of a vertical line; None without one.
    """

    name: str
    title: str
    summary: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    mark: Tick | None = None
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)
    left: int = field(default=LEFT, init=False)
    right: int = field(default=WIDTH - RIGHT, init=False)
    top: int = field(default=TOP, init=False)
    bottom: int = field(default=HEIGHT - BOTTOM, init=False)


@dataclass(frozen=True)
class Axis:
    """A linear axis from the value ``low`` to the value ``high``, which differ, between two coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of ``value``, rounded for a small file; values outside are moved to the ends."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, text: Callable[[float], str], most: int = 6) -> list[Tick]:
        """Return ticks at multiples of 1, 2 or 5 times a power of ten, at most about ``most``."""
        step = _step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self(number * step), text(number * step)) for number in range(first, last + 1)]


def horizontal(low: float, high: float) -> Axis:
    """Return the horizontal axis of a chart."""
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def vertical(low: float, high: float) -> Axis:
    """Return the vertical axis of a chart: SVG counts from the top."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP)


def line(name: str, values: Sequence[tuple[float, float]], x_axis: Axis, y_axis: Axis, style: str = "first") -> Line:
    """Return the line through ``values``, pairs of x and y, at least one; long ones are thinned out evenly."""
    stride = max(1, math.ceil(len(values) / MOST_POINTS))
    kept = [*values[:-1:stride], values[-1]]
    points = [(x_axis(x), y_axis(y)) for x, y in kept]
    return Line(name, " ".join(f"{x:g},{y:g}" for x, y in points), style, points[-1])


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least ``least``, above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
