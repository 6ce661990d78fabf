"""Draws a state graph with matplotlib: time runs to the right, errors stand out, the counterexample is a red thread.

A picture of two hundred states has no room for two hundred labels. So the states on the counterexample's way are
numbered, and the numbers are explained underneath; everything else speaks by shape and colour, which the legend gives.
Shape and colour always say the same thing, so that the picture can be read without colours.

`plot_state_graph` draws into axes of yours and changes nothing else. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sim.show.graph import IN_FLIGHT, require, state_graph
from sim.show.layout import Layout, layered, parts
from sim.show.reading import plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from pathlib import Path

    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MplPath

    from sim.search.report import Report

INK = "#1f2933"
QUIET = "#9aa5b1"
RED = "#c81e1e"
ERROR = "a claim breaks, or an application dies"
STYLES: dict[str, dict[str, Any]] = {
    "the beginning": {"marker": ">", "s": 80, "facecolor": INK, "edgecolor": INK, "linewidth": 0.9},
    "state": {"marker": "o", "s": 46, "facecolor": "#cfe0f3", "edgecolor": "#5b84b1", "linewidth": 0.9},
    "end of a run": {"marker": "s", "s": 52, "facecolor": "#ffffff", "edgecolor": "#2f5d8a", "linewidth": 1.4},
    ERROR: {"marker": "8", "s": 130, "facecolor": RED, "edgecolor": "#ffffff", "linewidth": 0.8},
    "a run ends here with a promise unkept": {
        "marker": "D",
        "s": 52,
        "facecolor": "#f0a132",
        "edgecolor": "#8a5200",
        "linewidth": 0.9,
    },
    "behind an error": {"marker": "o", "s": 34, "facecolor": "#fbe0dc", "edgecolor": "#d9a39b", "linewidth": 0.9},
}
ROW_INCHES = 0.30
COLUMN_INCHES = 0.62
COLUMNS = 3
"""Of the legend."""
RIM = 0.17
"""Columns between a node's middle and its rim, about."""


def plot_state_graph(
    graph: nx.DiGraph,
    ax: Axes | None = None,
    *,
    pos: Mapping[Hashable, tuple[float, float]] | None = None,
    title: str | None = None,
) -> Axes:
    """Draw a graph that `state_graph` made.

    Args:
        graph: the graph.
        ax: where to draw. None: new axes in a new figure of a fitting size, made without pyplot.
        pos: positions of your own. None: layers from left to right.
        title: over the picture. None: what was explored, and what came of it.

    Returns:
        The axes. Nothing is shown or saved.

    Raises:
        UsageError: the graph has no states.
    """
    require(graph)
    layout = layered(graph) if pos is None else Layout(dict(pos), {})
    places = layout.places
    if ax is None:
        ax = _figure(places).add_subplot()
    ax.set_axis_off()
    _limits(ax, places, bool(graph.graph["counterexample"]))
    _edges(ax, graph, layout)
    _nodes(ax, graph, places)
    _way(ax, graph, places)
    if pos is None:
        _names_of_parts(ax, graph, places)
    ax.set_title(title if title is not None else _title(graph), loc="left", fontsize=11, color=INK, pad=12)
    rows = _legend(ax, graph)
    _caption(ax, graph, 10 + 14 * rows)
    return ax


def save_state_graph(report: Report, path: Path | str, **options: Any) -> nx.DiGraph:
    """Make the state graph of a report and write it as a picture; the ending of `path` is its format.

    Args:
        report: of the search.
        path: where to write.
        **options: of `state_graph`.

    Returns:
        The graph.
    """
    graph = state_graph(report, **options)
    ax = plot_state_graph(graph)
    figure: Any = ax.figure
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.25, facecolor="white")
    return graph


def _figure(places: Mapping[Hashable, tuple[float, float]]) -> Figure:
    """A figure with a canvas of its own, whatever backend pyplot may be set to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    xs, ys = zip(*places.values(), strict=True)
    width = min(max(9.0, (max(xs) - min(xs) + 2) * COLUMN_INCHES), 20.0)
    height = min(max(1.8, (max(ys) - min(ys) + 2.2) * ROW_INCHES), 20.0)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    return figure


def _limits(ax: Axes, places: Mapping[Hashable, tuple[float, float]], way: bool) -> None:
    xs, ys = zip(*places.values(), strict=True)
    ax.set_xlim(min(xs) - 0.6, max(xs) + 0.6)
    ax.set_ylim(min(ys) - 0.9, max(ys) + (1.9 if way else 1.2))


def _kind(data: Mapping[str, Any]) -> str:
    if data["violated"] or data["died"]:
        return ERROR
    if data["unkept"]:
        return "a run ends here with a promise unkept"
    if data["initial"]:
        return "the beginning"
    if data["after"]:
        return "behind an error"
    return "end of a run" if data["final"] else "state"


def _edges(ax: Axes, graph: nx.DiGraph, layout: Layout) -> None:
    from matplotlib.patches import FancyArrowPatch

    nodes, places = graph.nodes, layout.places
    for before, after, data in sorted(graph.edges(data=True), key=lambda e: e[2]["counterexample"]):
        red = data["counterexample"]
        dim = nodes[after]["after"] or (nodes[before]["after"] and not red)
        bends = layout.bends.get((before, after), [])
        backward = places[after][0] <= places[before][0]
        ways: dict[str, Any] = {"posA": places[before], "posB": places[after]}
        if bends:
            ways = {"path": _curve([places[before], *bends, places[after]])}
        ax.add_patch(
            FancyArrowPatch(
                **ways,
                arrowstyle="-|>",
                mutation_scale=13 if red else 7,
                connectionstyle=f"arc3,rad={0.3 if backward else 0.0}",
                shrinkA=6,
                shrinkB=9 if red else 5,
                color=RED if red else "#e8c3be" if dim else QUIET,
                linewidth=2.4 if red else 0.8,
                zorder=2 if red else 1,
            )
        )


def _curve(places: list[tuple[float, float]]) -> MplPath:
    """A smooth line through all of `places` that crosses each column horizontally, up to the rim of the last node."""
    from matplotlib.path import Path as MplPath

    places = [*places[:-1], (places[-1][0] - RIM, places[-1][1])]
    points, codes = [places[0]], [MplPath.MOVETO]
    for (x, y), (to_x, to_y) in pairwise(places):
        points += [((x + to_x) / 2, y), ((x + to_x) / 2, to_y), (to_x, to_y)]
        codes += [MplPath.CURVE4] * 3
    return MplPath(points, codes)


def _nodes(ax: Axes, graph: nx.DiGraph, places: Mapping[Hashable, tuple[float, float]]) -> None:
    kinds: dict[str, list[Hashable]] = {}
    for node, data in graph.nodes(data=True):
        kinds.setdefault(_kind(data), []).append(node)
    for kind, members in kinds.items():
        xs, ys = zip(*(places[n] for n in members), strict=True)
        ax.scatter(xs, ys, zorder=4 if kind == ERROR else 3, **STYLES[kind])
        if kind == ERROR:
            for node in members:
                if not graph.nodes[node]["counterexample"]:
                    _inside(ax, places[node], "×", "white", 9)


def _way(ax: Axes, graph: nx.DiGraph, places: Mapping[Hashable, tuple[float, float]]) -> None:
    """Number the states on the counterexample's way, and say above it where it first breaks what."""
    said: set[str] = set()
    called: list[tuple[float, float]] = []
    for number, node in enumerate(graph.graph["counterexample"], 1):
        data, kind, (x, y) = graph.nodes[node], _kind(graph.nodes[node]), places[node]
        style = {"facecolor": "white", **STYLES[kind]} if kind != "behind an error" else STYLES["state"]
        face = "white" if kind in ("state", "behind an error") else style["facecolor"]
        ax.scatter([x], [y], zorder=5, **{**style, "s": 190, "facecolor": face, "edgecolor": RED, "linewidth": 1.7})
        _inside(ax, (x - 0.05 * (kind == "the beginning"), y), str(number), "white" if face in (RED, INK) else INK, 7)
        new = [name for name in [*data["violated"], *data["unkept"]] if name not in said]
        said.update(new)
        if new:
            top = max(row for column, row in places.values() if abs(column - x) <= 2.2 and abs(row - y) < 12) + 0.75
            while any(abs(column - x) < 4.5 and abs(row - top) < 0.8 * len(new) for column, row in called):
                top += 0.8
            called.append((x, top))
            ax.plot([x, x], [y + 0.3, top], color=RED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=2)
            _call_out(ax, "\n".join(f"✗ {name}" for name in new), (x, top))


def _call_out(ax: Axes, text: str, place: tuple[float, float]) -> None:
    ax.annotate(
        text,
        place,
        ha="center",
        va="bottom",
        fontsize=8,
        fontweight="bold",
        color=RED,
        zorder=7,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
    )


def _inside(ax: Axes, place: tuple[float, float], text: str, color: str, size: float) -> None:
    ax.annotate(
        text,
        place,
        xytext=(0, -0.4),
        textcoords="offset points",
        ha="center",
        va="center_baseline",
        fontsize=size,
        fontweight="bold",
        color=color,
        zorder=6,
    )


def _names_of_parts(ax: Axes, graph: nx.DiGraph, places: Mapping[Hashable, tuple[float, float]]) -> None:
    """Where the beginnings differ, say in what, over each."""
    initial = [next((n for n in nodes if graph.nodes[n]["initial"]), None) for nodes in parts(graph)]
    states = [graph.nodes[n]["state"] for n in initial if n is not None]
    telling = [name for name in (states[0] if states else {}) if len({s.get(name) for s in states}) > 1]
    for node in initial:
        if node is not None and telling:
            text = ", ".join(f"{name}: {graph.nodes[node]['state'].get(name)}" for name in telling)
            ax.annotate(
                plain(text, 60),
                places[node],
                xytext=(-6, 12),
                textcoords="offset points",
                fontsize=8.5,
                fontstyle="italic",
                color=INK,
            )


def _title(graph: nx.DiGraph) -> str:
    about = graph.graph
    searched = f"{about['runs']:,} run{'s' if about['runs'] != 1 else ''}{'' if about['complete'] else ' (not all)'}"
    size = f"{len(graph):,} states, {graph.number_of_edges():,} transitions, {searched}"
    return f"{about['scenario']} on {about['server']} ({about['kind']}): {about['verdict']}\n{size}"


def _legend(ax: Axes, graph: nx.DiGraph) -> int:
    """Below the picture. Returns how many rows it has."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    counts: dict[str, int] = {}
    for _, data in graph.nodes(data=True):
        counts[_kind(data)] = counts.get(_kind(data), 0) + 1
    handles: list[Any] = [
        ax.scatter([], [], label=f"{kind} ({counts[kind]:,})", **style)
        for kind, style in STYLES.items()
        if kind in counts
    ]
    if graph.graph["counterexample"]:
        handles.append(Line2D([], [], color=RED, linewidth=2.4, label="the simplest counterexample"))
    below = ScaledTranslation(0, -10 / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=ax.transAxes + below,
        borderaxespad=0,
        borderpad=0,
        ncols=COLUMNS,
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
    )
    return -(-len(handles) // COLUMNS)


def _caption(ax: Axes, graph: nx.DiGraph, top: int) -> None:
    """What the numbers stand for, from `top` points below the picture on: what happened on the way, and what broke."""
    way = graph.graph["counterexample"]
    if not way:
        return
    nodes = graph.nodes
    said: set[str] = set()
    steps: list[tuple[str, str]] = []
    for place, node in enumerate(way):
        data, before = nodes[node], nodes[way[place - 1]]["state"] if place else {}
        known = place > 0 and graph.has_edge(way[place - 1], node)
        what = graph.edges[way[place - 1], node]["label"] if known else "the scene is set"
        changed = [f"{k}: {v}" for k, v in data["state"].items() if k != IN_FLIGHT and before.get(k) != v]
        broken = [f"✗ {name}" for name in [*data["violated"], *data["unkept"]] if name not in said]
        said.update([*data["violated"], *data["unkept"]])
        steps.append((plain(what, 60), plain("; ".join([*broken, *changed]), 90)))
    width = max(len(what) for what, _ in steps)
    for place, (what, then) in enumerate(steps):
        ax.annotate(
            f"{place + 1:>3}  {what:<{width}}   {then}".rstrip(),
            (0, 0),
            xycoords="axes fraction",
            xytext=(0, -top - 20 - 13 * place),
            textcoords="offset points",
            va="baseline",
            fontsize=8,
            family="monospace",
            color=RED if "✗" in then else INK,
        )
