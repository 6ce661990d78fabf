"""State graphs: the runs of the search, each state once, errors where they happen; drawn the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rcParams
from matplotlib.figure import Figure

from sim import Event, UsageError, Violation, always, eventually
from sim.show.graph import state_graph
from sim.show.layout import layered, spread
from sim.show.plot import plot_state_graph, save_state_graph

from .toys import Noted, chattering, noted, search

if TYPE_CHECKING:
    from pathlib import Path

    from sim import Report, Trace, World


@attrs.define(slots=True)
class Died(Event):
    """An application died, as the recorder would say it."""

    kind: ClassVar[str] = "app.raised"


def steps(*widths: int, die_at: int | None = None) -> Any:
    """A play in which a script picks, one virtual second after the other, and its picks are the state."""

    def play(world: World, _subject: Any) -> None:
        picked: list[int] = []
        world.probe("picked", lambda: "".join(map(str, picked)) or "nothing")
        world.probe("application", lambda: "x")

        async def script(host: Any) -> None:
            for width in widths:
                await host.sleep(1)
                picked.append(host.choose(range(width), "which"))
                world.trace.record(Noted, "script", tuple(picked))
            if picked and picked[-1] == die_at:
                world.trace.record(Died, "application")

        world.start_script("script", script)

    return play


@always("no-twos", "No second pick is 2.")
def no_twos(trace: Trace) -> Violation | None:
    for event in trace.of(Noted):
        if event.what[1:2] == (2,):
            return Violation("it is 2", event)
    return None


@eventually("ends-at-zero", "The last pick is 0.")
def ends_at_zero(trace: Trace) -> Violation | None:
    return None if noted(trace)[-1][-1] == 0 else Violation("it is not 0")


def by_picks(graph: nx.DiGraph) -> dict[str, dict[str, Any]]:
    return {data["state"]["picked"]: data for _, data in graph.nodes(data=True)}


def test_each_state_is_a_node_and_each_step_an_edge() -> None:
    graph = search(steps(2, 3)).graph()
    states = by_picks(graph)
    assert sorted(states) == sorted(["nothing", "0", "1", *(f"{a}{b}" for a in range(2) for b in range(3))])
    assert len(graph) == len(states)
    assert nx.is_tree(graph)
    assert states["nothing"]["initial"]
    assert [p for p, d in states.items() if d["final"]] == ["00", "01", "02", "10", "11", "12"]
    assert (states["nothing"]["runs"], states["0"]["runs"], states["00"]["runs"]) == (6, 3, 1)
    assert [states[p]["depth"] for p in ("nothing", "1", "12")] == [0, 1, 2]
    assert graph.graph["runs"] == 6
    assert graph.graph["complete"]


def test_it_is_the_same_each_time_and_plain_json() -> None:
    report = search(steps(2, 3), no_twos)
    first, second = (json.dumps(nx.node_link_data(report.graph(), edges="edges")) for _ in range(2))
    assert first == second


def test_a_violation_marks_the_state_in_which_it_happens_and_those_behind_it() -> None:
    graph = search(steps(1, 3, 2), no_twos).graph()
    states = by_picks(graph)
    assert [p for p, d in states.items() if d["error"]] == ["02"]
    assert states["02"]["violated"] == ["no-twos"]
    assert sorted(p for p, d in states.items() if d["after"]) == ["020", "021"]


def test_a_claim_about_the_end_marks_the_end() -> None:
    states = by_picks(search(steps(2, 2), ends_at_zero).graph())
    assert sorted(p for p, d in states.items() if d["unkept"]) == ["01", "11"]
    assert not any(d["violated"] for d in states.values())
    assert sorted(p for p, d in states.items() if d["error"]) == ["01", "11"]


def test_a_dead_application_marks_the_state_in_which_it_died() -> None:
    states = by_picks(search(steps(2, 2, die_at=1)).graph())
    assert {p: d["died"] for p, d in states.items() if d["died"]} == {"01": ["application"], "11": ["application"]}


def test_the_counterexample_is_a_way_from_the_beginning_to_the_error() -> None:
    graph = search(steps(2, 3), no_twos).graph()
    way = graph.graph["counterexample"]
    assert [graph.nodes[n]["state"]["picked"] for n in way] == ["nothing", "0", "02"]
    assert all(graph.edges[edge]["counterexample"] for edge in nx.utils.pairwise(way))
    assert sum(data["counterexample"] for _, _, data in graph.edges(data=True)) == len(way) - 1


def test_a_report_that_holds_has_no_counterexample() -> None:
    assert search(steps(2)).graph().graph["counterexample"] == []


def test_fewer_runs_if_asked() -> None:
    graph = state_graph(search(steps(2, 3)), max_runs=2)
    assert graph.graph["runs"] == 2
    assert not graph.graph["complete"]


def test_what_is_in_flight_tells_states_apart() -> None:
    graph = search(chattering(2, 1)).graph()
    flying = {data["state"]["in flight"] for _, data in graph.nodes(data=True)}
    assert "nothing" in flying
    assert any("a0" in text and "b0" not in text for text in flying)
    labels = {data["label"] for _, _, data in graph.edges(data=True)}
    assert {"client 0 → server: a0", "client 1 → server: b0"} <= labels


GRAPHS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40).map(
    lambda edges: nx.DiGraph([e for e in edges if e[0] != e[1]])
)


@given(GRAPHS)
def test_layout_gives_each_node_a_place_of_its_own(graph: nx.DiGraph) -> None:
    layout = layered(graph)
    assert set(layout.places) == set(graph)
    assert len({(x, round(y, 6)) for x, y in layout.places.values()}) == len(graph)
    assert layout == layered(graph)


@given(GRAPHS)
def test_layout_points_to_the_right_where_there_is_no_circle(graph: nx.DiGraph) -> None:
    places = layered(graph).places
    if nx.is_directed_acyclic_graph(graph):
        assert all(places[a][0] < places[b][0] for a, b in graph.edges)


@given(GRAPHS)
def test_bends_are_in_the_columns_between(graph: nx.DiGraph) -> None:
    layout = layered(graph)
    for (before, after), bends in layout.bends.items():
        begin, end = layout.places[before][0], layout.places[after][0]
        assert [x for x, _ in bends] == [float(c) for c in range(int(begin) + 1, int(end))]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.data())
def test_spread_keeps_order_and_room(wished: list[float], data: st.DataObject) -> None:
    room = data.draw(st.lists(st.floats(0.1, 2), min_size=len(wished), max_size=len(wished)))
    rows = spread(wished, room)
    for i in range(len(rows) - 1):
        assert rows[i + 1] - rows[i] >= (room[i] + room[i + 1]) / 2 - 1e-9
    if all(b - a >= 2 for a, b in nx.utils.pairwise(wished)):
        assert rows == pytest.approx(wished)


@pytest.fixture
def violated() -> Report:
    return search(steps(2, 3, 2), no_twos, ends_at_zero)


def texts(ax: Any) -> str:
    legend = ax.get_legend()
    return "\n".join([t.get_text() for t in [*ax.texts, *legend.get_texts()]] + [ax.get_title(loc="left")])


def test_plot_draws_into_given_axes_and_changes_nothing_else(violated: Report) -> None:
    before = dict(rcParams)
    figure = Figure()
    ax = figure.add_subplot()
    assert plot_state_graph(violated.graph(), ax) is ax
    assert dict(rcParams) == before
    said = texts(ax)
    assert "toy on toy==1 (model): violated" in said
    assert "✗ ends-at-zero" in said
    assert "the simplest counterexample" in said
    assert "a claim breaks, or an application dies (2)" in said


def test_plot_takes_positions_and_a_title(violated: Report) -> None:
    graph = violated.graph()
    pos = {node: (float(node), 0.0) for node in graph}
    ax = plot_state_graph(graph, pos=pos, title="mine")
    assert ax.get_title(loc="left") == "mine"


def test_plot_of_what_holds_has_no_red_thread() -> None:
    said = texts(plot_state_graph(search(steps(3)).graph()))
    assert "counterexample" not in said
    assert "end of a run (3)" in said


def test_names_of_parts_say_in_what_the_beginnings_differ() -> None:
    def play(world: World, _subject: Any) -> None:
        way = world.choose(("echo", "busy"), "way")
        world.probe("application", lambda: way)

    said = texts(plot_state_graph(search(play).graph()))
    assert "application: echo" in said
    assert "application: busy" in said


def test_plot_refuses_to_draw_nothing() -> None:
    with pytest.raises(UsageError, match="no state to draw"):
        plot_state_graph(nx.DiGraph())


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_saves_a_picture(violated: Report, tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"graph.{ending}"
    save_state_graph(violated, path)
    assert path.read_bytes().startswith(magic)


def test_a_picture_is_the_same_each_time(violated: Report, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_state_graph(violated, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_loop_in_the_graph_is_drawn() -> None:
    def play(world: World, _subject: Any) -> None:
        lamp = ["off"]
        world.probe("lamp", lambda: lamp[0])

        async def script(host: Any) -> None:
            for state in ("on", "off", "on"):
                await host.sleep(1)
                lamp[0] = state

        world.start_script("script", script)

    graph = search(play).graph()
    assert len(graph) == 2
    assert not nx.is_directed_acyclic_graph(graph)
    plot_state_graph(graph)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = "{'matplotlib', 'networkx', 'rich', 'click'}"
    code = f"import sim, sys; sim.explore; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    code = "import sim.show.plot, sys; print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
