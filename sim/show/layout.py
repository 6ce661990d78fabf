"""Where the nodes of a state graph go: layers from left to right, few crossings, the same picture every time.

How it works (Sugiyama's method, in its plainest form): edges that would close a circle are set aside; then a node's
column is the number of things that happened on the longest way to it, so every other edge points to the right. An edge
over several columns gets a *bend* in each column that it crosses, and bends are sorted with the nodes. Within a column
all are sorted again and again by the mean position of their neighbours in the column before or behind (barycentre
sweeps), which undoes most crossings. Then each is drawn as near to its neighbours as its place in the order allows.
Parts that have nothing to do with one another are stacked.

There is no randomness, and ties keep the order of discovery.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import attrs
import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

Place: TypeAlias = "tuple[float, float]"
Edge: TypeAlias = "tuple[Hashable, Hashable]"

SWEEPS = 24
RELAXATIONS = 24
GAP = 1.8
"""Rows between two parts."""
BEND = 0.45
"""The room that a bend takes, in rows; a node takes 1."""


@attrs.frozen
class Layout:
    """Where everything goes: x counts columns, y counts rows, upwards.

    Attributes:
        places: of the nodes.
        bends: of each edge, from its beginning to its end; none for most.
    """

    places: dict[Hashable, Place]
    bends: dict[Edge, list[Place]]


@attrs.frozen
class _Bend:
    """The place where an edge crosses a column."""

    edge: Edge
    column: int


def layered(graph: nx.DiGraph) -> Layout:
    """Lay a graph out."""
    forward = nx.DiGraph()
    forward.add_nodes_from(graph)
    closing = _closing(graph)
    forward.add_edges_from(edge for edge in graph.edges if edge not in closing)
    columns: dict[Hashable, int] = {}
    for column, layer in enumerate(nx.topological_generations(forward)):
        columns.update((node, column) for node in layer)
    layout = Layout({}, {})
    top = 0.0
    for nodes in parts(graph):
        rows = _rows(forward, nodes, columns)
        shift = top - min(rows.values())
        for item, row in rows.items():
            if isinstance(item, _Bend):
                layout.bends.setdefault(item.edge, []).append((float(item.column), -(row + shift)))
            else:
                layout.places[item] = (float(columns[item]), -(row + shift))
        top = max(rows.values()) + shift + GAP
    for bends in layout.bends.values():
        bends.sort()
    return layout


def parts(graph: nx.DiGraph) -> list[list[Hashable]]:
    """The weakly connected components, in the order of their discovery, nodes likewise."""
    order = {node: number for number, node in enumerate(graph)}
    found = [sorted(nodes, key=order.__getitem__) for nodes in nx.weakly_connected_components(graph)]
    return sorted(found, key=lambda nodes: order[nodes[0]])


def _closing(graph: nx.DiGraph) -> set[Edge]:
    """The edges that lead back to a node of the way on which a depth-first walk is."""
    closing: set[Edge] = set()
    done: set[Hashable] = set()
    for root in graph:
        if root in done:
            continue
        way: dict[Hashable, None] = {root: None}
        todo = [(root, iter(graph[root]))]
        while todo:
            node, successors = todo[-1]
            successor = next(successors, None)
            if successor is None:
                todo.pop()
                way.pop(node)
                done.add(node)
            elif successor in way:
                closing.add((node, successor))
            elif successor not in done:
                way[successor] = None
                todo.append((successor, iter(graph[successor])))
    return closing


def _rows(forward: nx.DiGraph, nodes: Sequence[Hashable], columns: Mapping[Hashable, int]) -> dict[Hashable, float]:
    """A row for each node of one part, and for each bend of its edges."""
    layers: dict[int, list[Hashable]] = {}
    before: dict[Hashable, list[Hashable]] = {}
    behind: dict[Hashable, list[Hashable]] = {}
    for node in nodes:
        layers.setdefault(columns[node], []).append(node)
    for edge in forward.edges(nodes):
        bends: list[Hashable] = [_Bend(edge, column) for column in range(columns[edge[0]] + 1, columns[edge[1]])]
        for bend, column in zip(bends, range(columns[edge[0]] + 1, columns[edge[1]]), strict=True):
            layers[column].append(bend)
        way = [edge[0], *bends, edge[1]]
        for one, other in pairwise(way):
            behind.setdefault(one, []).append(other)
            before.setdefault(other, []).append(one)
    ordered = [layers[column] for column in sorted(layers)]
    rows = {item: float(i) for layer in ordered for i, item in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours, layers_now = (before, ordered) if sweep % 2 == 0 else (behind, ordered[::-1])
        for layer in layers_now:
            layer.sort(key=_mean_row(neighbours, rows))
            rows.update((item, float(i)) for i, item in enumerate(layer))
    for layer in ordered:
        rows.update((item, i - (len(layer) - 1) / 2) for i, item in enumerate(layer))
    for relaxation in range(RELAXATIONS):
        for layer in ordered if relaxation % 2 == 0 else ordered[::-1]:
            wished = [_mean(rows, [*before.get(i, ()), *behind.get(i, ())], rows[i]) for i in layer]
            room = [BEND if isinstance(item, _Bend) else 1.0 for item in layer]
            rows.update(zip(layer, spread(wished, room), strict=True))
    return rows


def _mean_row(
    neighbours: Mapping[Hashable, Sequence[Hashable]], rows: Mapping[Hashable, float]
) -> Callable[[Hashable], float]:
    return lambda item: _mean(rows, neighbours.get(item, ()), rows[item])


def _mean(rows: Mapping[Hashable, float], items: Sequence[Hashable], otherwise: float) -> float:
    return sum(rows[i] for i in items) / len(items) if items else otherwise


def spread(wished: Sequence[float], room: Sequence[float]) -> list[float]:
    """The rows nearest to the wished ones (least squares) that keep the order and leave each its room.

    With the room taken off it is isotonic regression; neighbours that would overlap are pooled.
    """
    offsets = [0.0]
    for one, other in pairwise(room):
        offsets.append(offsets[-1] + (one + other) / 2)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=False):
        mean, count = wish - offset, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
