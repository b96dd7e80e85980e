"""Names beside the points of a plot: none over another, and over a point or a line only where there is no room. By
rule, so that the same data gives the same places.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from cai.report.svg import INK, MUTED

Place = tuple[float, float]
Span = tuple[Place, Place]
"""From where to where, in the plot's own units."""

_SIDES = ((0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7), (0, 1), (0, -1), (1, 0), (-1, 0))
_RINGS = (7.0, 18.0, 30.0, 44.0, 60.0)
"""Distance in points (1/72 inch); a name further away than the first is tied to its point by a line."""
_DOT = 4.0
_OUTSIDE, _OVER, _ACROSS, _FAR = 1000.0, 100.0, 10.0, 0.2
"""What it costs to stand outside, over a name or a point, across a line, and each point of distance."""


class _Try(NamedTuple):
    cost: float
    number: int
    """The first of two that cost the same."""
    ring: float
    middle: Place
    box: Bbox


def name_points(
    figure: Figure, axes: Axes, named: Sequence[tuple[str, float, float]], lines: Sequence[Span]
) -> list[Bbox]:
    """Write each (name, x, y), one after the other, where it hides least; where they stand, in pixels."""
    figure.draw_without_rendering()  # the layout decides where the points are
    at = axes.transData.transform
    points = [(float(px), float(py)) for px, py in (at((x, y)) for _, x, y in named)]
    dots = [Bbox.from_extents(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in points]
    drawn = [Path([at(start), at(end)]) for start, end in lines]
    pixel = figure.dpi / 72
    taken: list[Bbox] = []
    for (name, x, y), point in zip(named, points, strict=True):
        best = min(
            _tried(point, _size(axes, name), pixel, axes.bbox, [*taken, *dots], drawn), key=lambda each: each[:2]
        )
        taken.append(best.box)
        axes.annotate(
            name, (x, y), (best.middle[0] / pixel, best.middle[1] / pixel), textcoords="offset points",
            ha="center", va="center", color=INK, in_layout=False,
            arrowprops=_TIE if best.ring > _RINGS[0] else None,
        )  # fmt: skip
    return taken


def _tried(
    point: Place, size: Place, pixel: float, frame: Bbox, boxes: Sequence[Bbox], lines: Sequence[Path]
) -> Iterator[_Try]:
    for number, (ring, (right, up)) in enumerate(itertools.product(_RINGS, _SIDES)):
        middle = (_beside(right, ring * pixel, size[0]), _beside(up, ring * pixel, size[1]))
        corner = (point[0] + middle[0] - size[0] / 2, point[1] + middle[1] - size[1] / 2)
        box = Bbox.from_bounds(*corner, *size)
        yield _Try(_cost(box, frame, boxes, lines) + _FAR * ring, number, ring, middle, box)


_TIE = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 3}


def _beside(side: float, ring: float, length: float) -> float:
    """From the point to the middle of a name that ends `ring` away from it on this side; 0 is right over it."""
    return side * ring + (length / 2 if side > 0 else -length / 2 if side < 0 else 0)


def _size(axes: Axes, name: str) -> tuple[float, float]:
    text = axes.text(0, 0, name, in_layout=False)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _cost(box: Bbox, frame: Bbox, boxes: Sequence[Bbox], lines: Sequence[Path]) -> float:
    is_outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    n_over = sum(bool(box.overlaps(other)) for other in boxes)
    n_across = sum(line.intersects_bbox(box, filled=False) for line in lines)
    return _OUTSIDE * is_outside + _OVER * n_over + _ACROSS * n_across
