"""A search on disk: killed at any moment, it goes on; and it goes on only as what it was."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from sim import SimError, UsageError, explore_many
from sim.search import parallel
from sim.search.checkpoint import Checkpoint, _line, identity, opened
from sim.search.question import Question
from sim.search.spread import Search

from .stories import plain, write_stories
from .toys import Toy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim import Report, Scenario

SCENARIO = "stories:scenario"
SERVERS = ["hypercorn", "reference"]


@pytest.fixture
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module of stories, which is the current one."""
    return write_stories(tmp_path, monkeypatch)


@pytest.fixture
def in_small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "UNIT_SECONDS", 0.01)


class Killed(BaseException):
    """What stands for SIGKILL where a whole process would cost too much: nothing catches it."""


def ask(path: Path | str | None, **more: Any) -> list[Report]:
    more.setdefault("params", {"ways": 2})
    return explore_many(SCENARIO, SERVERS, workers=1, checkpoint=path, **more)


def ended(number: int) -> Callable[[str, object], None]:
    """A progress callback that ends the search when it is called for the n-th time."""
    calls = itertools.count(1)

    def end(_server: str, _progress: object) -> None:
        if next(calls) == number:
            raise Killed

    return end


@pytest.mark.usefixtures("stories", "in_small_units")
def test_a_search_that_was_ended_again_and_again_is_one_search(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    for _ in range(3):
        with pytest.raises(Killed):
            ask(path, on_progress=ended(2))
    lines = path.read_text().splitlines()
    assert len(lines) >= 1 + 3 * 2
    told: list[int] = []
    reports = ask(path, on_progress=lambda _s, p: told.append(p.runs))
    assert [plain(r) for r in reports] == [plain(r) for r in ask(None)]
    assert [r.reruns for r in reports] == [r.reruns for r in ask(None)]
    assert min(told) > 0
    # What is finished is not done again, and the answer is there at once.
    size = path.stat().st_size
    told.clear()
    assert [plain(r) for r in ask(path, on_progress=lambda _s, p: told.append(p.runs))] == [plain(r) for r in reports]
    assert (told, path.stat().st_size) == ([], size)


@pytest.mark.usefixtures("stories", "in_small_units")
def test_any_cut_of_the_file_resumes(tmp_path: Path) -> None:
    """A process that is killed leaves some prefix of the bytes that it would have written."""
    path = tmp_path / "it.checkpoint"
    expected = [plain(r) for r in ask(path)]
    whole = path.read_bytes()
    chance = random.Random(7)
    for cut in [0, 1, len(whole) - 1, whole.index(b"\n"), *(chance.randrange(len(whole)) for _ in range(3))]:
        path.write_bytes(whole[:cut])
        assert [plain(r) for r in ask(path)] == expected
        assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.usefixtures("stories", "in_small_units")
def test_bounds_may_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    first = ask(path, max_runs=7)
    assert [(r.runs, str(r.bound)) for r in first] == [(7, "max-runs=7")] * 2
    assert [plain(r) for r in ask(path, max_runs=7)] == [plain(r) for r in ask(None, max_runs=7)]
    assert [plain(r) for r in ask(path, max_runs=11)] == [plain(r) for r in ask(None, max_runs=11)]
    assert [plain(r) for r in ask(path)] == [plain(r) for r in ask(None)]
    assert [plain(r) for r in ask(path, max_runs=3)] == [plain(r) for r in ask(None, max_runs=3)]


@pytest.mark.usefixtures("stories")
def test_seconds_are_those_of_the_whole_search(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    ask(path)
    lines = path.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])
    del last["crc"]
    last["seconds"] = 5000.0
    path.write_bytes("".join(lines[:-1]).encode() + _line(last))
    assert [r.seconds >= 5000 for r in ask(path)] == [False, True]


@pytest.mark.usefixtures("in_small_units")
def test_another_search_is_refused(tmp_path: Path, stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.checkpoint"
    ask(path, max_runs=2)
    before = kept = path.read_bytes()

    def refused(why: str, *servers: str, **more: Any) -> None:
        more.setdefault("params", {"ways": 2})
        name = more.pop("name", SCENARIO)
        with pytest.raises(UsageError, match=why) as error:
            explore_many(name, servers or SERVERS, workers=1, checkpoint=path, **more)
        assert "delete the file to begin anew" in str(error.value)
        assert str(path) in str(error.value)
        assert path.read_bytes() == before

    refused("settings params ways was 2, and is 3", params={"ways": 3})
    refused("settings granularity was none, and is iteration", granularity="iteration")
    refused("settings max_choices was 10000, and is 5", max_choices=5)
    refused("scenario was stories:scenario, and is hello", name="hello", params={})
    refused("servers reference was .*, and is none", "hypercorn")
    monkeypatch.setattr("sim.search.runner.python_version", lambda: "2.7")
    refused(r"servers hypercorn python was 3\.\d+, and is 2\.7")
    monkeypatch.undo()
    monkeypatch.chdir(stories)
    monkeypatch.syspath_prepend(str(stories))
    monkeypatch.setattr("sim.search.checkpoint.FORMAT", 99)
    refused("checkpoint was 3, and is 99")
    path.write_bytes(before := b'{"checkpoint":2,"asgi-sim":"0.1.0"}\n')  # without a checksum
    refused("checkpoint was 2, and is 99")
    path.write_bytes(before := kept)
    monkeypatch.undo()
    monkeypatch.chdir(stories)
    monkeypatch.syspath_prepend(str(stories))
    with (stories / "stories.py").open("a") as file:
        file.write("# another story\n")
    refused("the scenario's file has changed since then")


@pytest.mark.usefixtures("stories")
def test_what_is_no_checkpoint_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    ask(path, max_runs=2)
    header = path.read_text().splitlines(keepends=True)[0]
    for text in (
        "a shopping list\n",
        "[]\n",
        "{}\n",
        "17\n",
        "a will",
        header[:9] + "x",
        header + "{}\n",
        header + "eggs\n" + header,
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"line \d is not what a search writes"):
            ask(path)
        assert path.read_text() == text


@pytest.mark.usefixtures("stories", "in_small_units")
def test_a_line_that_does_not_follow_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    ask(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[1]]))
    with pytest.raises(UsageError, match=r"line 3 is not what a search writes \(ValueError\)"):
        ask(path)


@pytest.mark.usefixtures("stories", "in_small_units")
def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    """Also where what it makes is what a search might have written."""
    path = tmp_path / "it.checkpoint"
    ask(path)
    whole = path.read_bytes()
    chance = random.Random(5)
    places = [whole.index(b'"runs":', whole.index(b"\n")) + 7, *(chance.randrange(len(whole) - 1) for _ in range(12))]
    for place in places:
        bad = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        path.write_bytes(bad)
        with pytest.raises(UsageError, match=r"line \d+ is not what a search writes .*delete it to begin anew"):
            ask(path)
        assert path.read_bytes() == bad


@pytest.mark.usefixtures("stories")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    with opened(path), pytest.raises(UsageError, match="is being written by another search"):
        ask(path)
    ask(path)


@pytest.mark.usefixtures("stories")
def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--checkpoint .*nowhere/it cannot be opened: No such file"):
        ask(tmp_path / "nowhere" / "it")
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path / "pipe", "/dev/full"):
        with pytest.raises(UsageError, match=rf"--checkpoint {special} is no regular file. Give the name of one"):
            ask(special)


def test_a_full_disk_says_what_to_do(stories: Path) -> None:
    from sim.registry import find_scenario, find_subject

    full = os.open("/dev/full", os.O_WRONLY)
    scenario = find_scenario(SCENARIO)
    search = Search(scenario, find_subject("reference"), Question(), SCENARIO)
    try:
        with pytest.raises(UsageError, match="cannot be written: No space left on device.*What was written before is"):
            Checkpoint(stories, full)._append(
                identity(scenario, SCENARIO, Question(), {"reference": search.runner.versions()})
            )
    finally:
        os.close(full)


def test_what_has_no_name_has_no_checkpoint(tmp_path: Path) -> None:
    from .toys import picking, toy_scenario

    scenario: Scenario = toy_scenario(picking(2))
    with pytest.raises(UsageError, match="a checkpoint is for scenarios that can be found by name"):
        explore_many(scenario, [Toy()], checkpoint=tmp_path / "it")
    with pytest.raises(UsageError, match="names each server once"):
        explore_many("hello", ["reference", "reference"], checkpoint=tmp_path / "it")


@pytest.mark.usefixtures("stories")
def test_an_error_is_no_line_and_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.checkpoint"
    monkeypatch.setenv("TEST_FAIL_STARTUP", "1")
    for _ in range(2):
        with pytest.raises(SimError, match="did not start"):
            ask(path)
    monkeypatch.delenv("TEST_FAIL_STARTUP")
    assert [plain(r) for r in ask(path)] == [plain(r) for r in ask(None)]


MAIN = """
    import json, sys
    from sim import explore_many
    from sim.search import parallel

    if __name__ == "__main__":
        parallel.UNIT_SECONDS = 0.05
        parallel.ALONE = 0.2
        reports = explore_many(
            "stories:scenario", {servers!r}, workers=2, checkpoint={path!r}, params={{"ways": {ways}}},
            on_progress=lambda server, progress: print(progress.runs, flush=True),
        )
        records = [r.to_json() | {{"seconds": 0, "reruns": r.reruns}} for r in reports]
        print("done", json.dumps(records), flush=True)
"""


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_answer(stories: Path, seed: int) -> None:
    """A real process with real workers, and real SIGKILLs: while it starts, and while it works."""
    path = stories / "it.checkpoint"
    script = stories / "main.py"
    script.write_text(textwrap.dedent(MAIN.format(servers=SERVERS, path=str(path), ways=4)))
    chance = random.Random(seed)
    kills = 0
    answer = ""
    deadline = time.monotonic() + 300
    while not answer and time.monotonic() < deadline:
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=stories) as process:
            assert process.stdout is not None
            patience = chance.choice([0, 1, 4, 9]) if kills < 5 else None
            for number, line in enumerate(process.stdout):
                if line.startswith("done "):
                    answer = line.removeprefix("done ")
                elif number == patience:
                    time.sleep(chance.random() * 0.2)
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
            process.stdout.close()
    assert kills >= 3
    undisturbed = explore_many(SCENARIO, SERVERS, workers=1, params={"ways": 4})
    assert json.loads(answer) == [r.to_json() | {"seconds": 0, "reruns": r.reruns} for r in undisturbed]
