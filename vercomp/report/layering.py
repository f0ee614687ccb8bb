"""A layered drawing of a DAG: boxes in rows, every edge downwards and around the boxes.

The steps are those of Sugiyama, Tagawa and Toda (1981): rows by longest paths, an order within each
row that crosses few edges (barycenters, the best of several sweeps), then coordinates. An edge over
several rows passes each of them in a lane of its own, and all long edges of one box share their
lanes: a value that many boxes read goes down once, and they branch off.

Coordinates minimise squared distances to the neighbours under the widths' constraints. For a fixed
order that is weighted isotonic regression, solved exactly, a row at a time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

LANE = 14.0  # the width of what passes a row
BETWEEN = 26.0  # boxes, side by side
GAP = 46.0  # rows, one above the other
PER_EDGE = 3.0  # more of it for every edge that does not go straight down
WIDEST_GAP = 130.0
SWEEPS = 12
PORT = 34.0  # edges that arrive at one box, side by side

Item = tuple[int, int]  # a box in its row (box, -1), or the lane of a box's value (box, row)


@dataclass(frozen=True)
class Size:
    """The width and height of a box."""

    width: float
    height: float


@dataclass(frozen=True)
class Stroke:
    """A piece of an edge: of the value of ``source``, on its way to ``targets``.

    Args:
        source: The box whose value it carries.
        targets: The boxes that read the value through this piece.
        path: SVG path data.
        end: Where it arrives at a box; None where it ends in a lane.
        long: Whether it is part of an edge that passes a row.
    """

    source: int
    targets: tuple[int, ...]
    path: str
    end: tuple[float, float] | None
    long: bool


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    Args:
        width: Of all.
        height: Of all.
        corners: The upper left corner of each box.
        rows: The row of each box.
        strokes: The edges.
    """

    width: float
    height: float
    corners: tuple[tuple[float, float], ...]
    rows: tuple[int, ...]
    strokes: tuple[Stroke, ...]


def drawing(sizes: Sequence[Size], parents: Sequence[Sequence[int]]) -> Drawing:
    """Draw a DAG.

    Args:
        sizes: Of the boxes, in a topological order.
        parents: For each box those that it reads, all earlier ones.
    """
    return _Layers(sizes, [tuple(dict.fromkeys(found)) for found in parents]).drawing()


class _Layers:
    def __init__(self, sizes: Sequence[Size], parents: Sequence[tuple[int, ...]]) -> None:
        self.sizes = sizes
        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(sizes)))
        graph.add_edges_from((p, box) for box, found in enumerate(parents) for p in found)
        generations = [sorted(found) for found in nx.topological_generations(graph)]
        self.row = {box: row for row, found in enumerate(generations) for box in found}
        self.rows: list[list[Item]] = [[(box, -1) for box in found] for found in generations]
        self.targets: dict[tuple[Item, Item], set[int]] = {}
        lanes: dict[Item, None] = {}
        for box, found in enumerate(parents):
            for parent in found:
                way = [(parent, row) for row in range(self.row[parent] + 1, self.row[box])]
                lanes.update(dict.fromkeys(way))
                for link in pairwise([(parent, -1), *way, (box, -1)]):
                    self.targets.setdefault(link, set()).add(box)
        for lane in lanes:
            self.rows[lane[1]].append(lane)
        self.above: dict[Item, list[Item]] = {item: [] for row in self.rows for item in row}
        self.below: dict[Item, list[Item]] = {item: [] for row in self.rows for item in row}
        for upper, lower in self.targets:
            self.below[upper].append(lower)
            self.above[lower].append(upper)

    def drawing(self) -> Drawing:
        """Order, place, and draw."""
        self._order()
        x = self._horizontal()
        left = min(x[item] - self._width(item) / 2 for item in x)
        right = max(x[item] + self._width(item) / 2 for item in x)
        x = {item: place - left for item, place in x.items()}
        tops, bottoms = self._vertical(x)
        ports = self._ports(x)
        corners = tuple(
            (round(x[box, -1] - size.width / 2, 1), round(tops[self.row[box]], 1))
            for box, size in enumerate(self.sizes)
        )
        strokes = tuple(
            self._stroke(link, x, ports, tops, bottoms) for link in sorted(self.targets)
        )
        rows = tuple(self.row[box] for box in range(len(self.sizes)))
        return Drawing(round(right - left, 1), round(bottoms[-1], 1), corners, rows, strokes)

    # ── Order within rows ────────────────────────────────────────────────────────────────────

    def _order(self) -> None:
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            for row in self.rows if down else reversed(self.rows):
                self._sort(row, self.above if down else self.below)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sort(self, row: list[Item], neighbours: Mapping[Item, list[Item]]) -> None:
        """By the mean place of the neighbours; what has none stays where it is."""
        place = {item: index for found in self.rows for index, item in enumerate(found)}
        key = {item: float(place[item]) for item in row}
        for item in row:
            if neighbours[item]:
                key[item] = sum(place[n] for n in neighbours[item]) / len(neighbours[item])
        row.sort(key=lambda item: key[item])

    def _crossings(self) -> int:
        place = {item: index for found in self.rows for index, item in enumerate(found)}
        total = 0
        for row in self.rows:
            seen: list[int] = []
            for item in row:
                ends = sorted(place[lower] for lower in self.below[item])
                total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
                for end in ends:
                    insort(seen, end)
        return total

    # ── Coordinates ──────────────────────────────────────────────────────────────────────────

    def _width(self, item: Item) -> float:
        return LANE if item[1] >= 0 else self.sizes[item[0]].width

    def _distance(self, one: Item, other: Item) -> float:
        """Between the middles of two neighbours in a row."""
        between = BETWEEN if one[1] < 0 or other[1] < 0 else 0.0
        return (self._width(one) + self._width(other)) / 2 + between

    def _horizontal(self) -> dict[Item, float]:
        x: dict[Item, float] = {}
        for row in self.rows:
            places = [0.0]
            for one, other in pairwise(row):
                places.append(places[-1] + self._distance(one, other))
            x |= {item: place - places[-1] / 2 for item, place in zip(row, places, strict=True)}
        for sweep in range(4 * SWEEPS):
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                self._settle(row, x)
        return x

    def _settle(self, row: list[Item], x: dict[Item, float]) -> None:
        wanted, weights = [], []
        for item in row:
            near = [(other, self._pull(item, other)) for other in self.above[item]]
            near += [(other, self._pull(item, other)) for other in self.below[item]]
            total = sum(pull for _, pull in near)
            wanted.append(sum(pull * x[other] for other, pull in near) / total if near else x[item])
            weights.append(total or 1.0)
        offsets = [0.0]
        for one, other in pairwise(row):
            offsets.append(offsets[-1] + self._distance(one, other))
        free = [place - offset for place, offset in zip(wanted, offsets, strict=True)]
        for item, place, offset in zip(row, isotonic(free, weights), offsets, strict=True):
            x[item] = place + offset

    @staticmethod
    def _pull(one: Item, other: Item) -> float:
        """Lanes are straight before all, then what reads its neighbour directly."""
        lanes = (one[1] >= 0) + (other[1] >= 0)
        return (6.0, 0.05, 12.0)[lanes]

    def _vertical(self, x: Mapping[Item, float]) -> tuple[list[float], list[float]]:
        tops, bottoms = [], []
        top = 0.0
        for row in self.rows:
            height = max(self.sizes[box].height for box, lane in row if lane < 0)
            bent = sum(
                abs(x[item] - x[lower]) > 2 * LANE for item in row for lower in self.below[item]
            )
            tops.append(top)
            bottoms.append(top + height)
            top += height + min(GAP + PER_EDGE * bent, WIDEST_GAP)
        return tops, bottoms

    # ── Edges ────────────────────────────────────────────────────────────────────────────────

    def _ports(self, x: Mapping[Item, float]) -> dict[tuple[Item, Item], float]:
        """Where each edge arrives: side by side on top of a box, in the order of their origins."""
        ports = {}
        for item, found in self.above.items():
            origins = sorted(found, key=lambda upper: (x[upper], upper))
            step = min(PORT, (self._width(item) - 2 * PORT) / max(len(origins) - 1, 1))
            for index, upper in enumerate(origins):
                ports[upper, item] = x[item] + (index - (len(origins) - 1) / 2) * step
        return ports

    def _stroke(
        self,
        link: tuple[Item, Item],
        x: Mapping[Item, float],
        ports: Mapping[tuple[Item, Item], float],
        tops: Sequence[float],
        bottoms: Sequence[float],
    ) -> Stroke:
        """Straight down out of the upper row, a curve between the rows, straight down again."""
        (box, lane), (_, target_lane) = link
        row = self.row[box] if lane < 0 else lane
        start = tops[row] + self.sizes[box].height if lane < 0 else bottoms[row]
        a, b = x[link[0]], ports[link]
        above, below = bottoms[row], tops[row + 1]
        half = (above + below) / 2
        path = [f"M{a:.1f} {start:.1f}"]
        if start < above:
            path.append(f"V{above:.1f}")
        if abs(a - b) < 0.05:
            path.append(f"V{below:.1f}")
        else:
            path.append(f"C{a:.1f} {half:.1f} {b:.1f} {half:.1f} {b:.1f} {below:.1f}")
        if target_lane >= 0:
            path.append(f"V{bottoms[row + 1]:.1f}")
        return Stroke(
            source=box,
            targets=tuple(sorted(self.targets[link])),
            path="".join(path),
            end=(round(b, 1), round(below, 1)) if target_lane < 0 else None,
            long=lane >= 0 or target_lane >= 0,
        )


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to values in weighted squares (pool adjacent violators).

    Args:
        values: The values.
        weights: Positive, one a value.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while pools and pools[-1][0] > mean:
            before, much, many = pools.pop()
            mean = (before * much + mean * total) / (much + total)
            total, count = total + much, count + many
        pools.append((mean, total, count))
    return [mean for mean, _, count in pools for _ in range(count)]
