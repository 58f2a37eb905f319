"""Placing point labels so that none covers another label or a point."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in inches."""


NEAR_SPOTS = 4
"""The first spots touch the point and need no line."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A label's place in inches.

    Attributes:
        x: The edge that faces the point (the middle where it stands above or below).
        middle: Its vertical middle.
        align: `left`, `right` or `center`: which part of the label `x` is.
        led: Whether it stands so far off that it needs a line to its point.
    """

    x: float
    middle: float
    align: str
    led: bool


def place_labels(
    points: list[tuple[float, float]], sizes: list[tuple[float, float]], obstacles: list[Box], frame: Box
) -> list[Placed]:
    """A place for each label: the first of a few spots around its point that is free.

    Args:
        points: Where the points are, in inches.
        sizes: Width and height of each label in inches.
        obstacles: Boxes that no label should cover (points and their intervals).
        frame: The box in which labels may lie.

    Returns:
        A place for each point; where all spots are taken, the one that covers least.
    """
    taken = list(obstacles)
    placed = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        spots = [_box(left, middle, width, height) for left, middle in _spots(x, y, width, height)]
        best = min(range(len(spots)), key=lambda index: (_covered(spots[index], taken, frame), index))
        box = spots[best]
        taken.append(box)
        placed.append(_facing(x, box, led=best >= NEAR_SPOTS))
    return placed


def _facing(x: float, box: Box, *, led: bool) -> Placed:
    middle = (box[1] + box[3]) / 2
    if box[0] >= x:
        return Placed(box[0], middle, "left", led)
    if box[2] <= x:
        return Placed(box[2], middle, "right", led)
    return Placed((box[0] + box[2]) / 2, middle, "center", led)


def _spots(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    gap = 0.1
    near = [(x + gap, y - 0.12 - height / 2), (x + gap, y + 0.12 + height / 2)]
    near += [(x - gap - width, y - 0.12 - height / 2), (x - gap - width, y + 0.12 + height / 2)]
    far = []
    for distance in (0.35, 0.6, 0.9, 1.25):
        for sign in (-1, 1):
            far += [
                (x + gap, y + sign * (distance + height / 2)),
                (x - gap - width, y + sign * (distance + height / 2)),
            ]
            far += [(x - width / 2, y + sign * (distance + height / 2))]
    return [*near, *far]


def _box(left: float, middle: float, width: float, height: float) -> Box:
    return left, middle - height / 2, left + width, middle + height / 2


def _covered(box: Box, taken: list[Box], frame: Box) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - _overlap(box, frame)
    # Leaving the frame would cut the label off, which is worse than touching a neighbour.
    return round(10 * outside + sum(_overlap(box, other) for other in taken), 6)


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)
