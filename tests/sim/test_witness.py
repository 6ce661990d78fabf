"""A search that is gone on with in another process: with the same answer, or with the reason why not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from sim import Divergence, UsageError
from sim.registry import find_scenario, find_subject
from sim.search.question import Question
from sim.search.seeds import Answers
from sim.search.witness import FEW, MOST, Court, Witness, Witnesses

if TYPE_CHECKING:
    from pathlib import Path

UVICORN = "uvicorn[h11,wsproto]"
APPLICATIONS = """
    from scenarios.applications import take_part

    async def held(websocket):
        order = list({"alpha", "beta", "gamma", "delta", "epsilon"})
        await echo(websocket)
        del order

    async def said(websocket):
        await echo(websocket, "-".join({"alpha", "beta", "gamma", "delta", "epsilon"}))

    async def sorted_out(websocket):
        names = {"alpha", "beta", "gamma", "delta", "epsilon"}
        await echo(websocket, "-".join(sorted(names)))
        del names

    def application(name):
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await take_part(receive, send)
            else:
                await receive()
                await send({"type": "websocket.accept"})
                await globals()[name]((receive, send))
        return app

    async def echo(websocket, said=""):
        receive, send = websocket
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + said})
"""
STORY = """
    import attrs
    from models.application import Application
    from scenarios import independent_echoes
    from sim import Param

    @attrs.frozen
    class Serving:
        subject: object
        name: str

        def serve(self, world, application, **options):
            return self.subject.serve(world, Application("ours:application", {"name": self.name}), **options)

    def play(world, subject, *, app, **arguments):
        independent_echoes.play(world, Serving(subject, app), **arguments)

    echoes = independent_echoes.scenario
    params = (*echoes.params, Param("app", "held", "which application"))
    scenario = attrs.evolve(echoes, name="story:scenario", play=play, params=params)
"""
MAIN = """
    import json, os, signal, sys
    from sim import SimError, explore_many
    from sim.search import checkpoint, kept, parallel

    if __name__ == "__main__":
        patience, workers, server, path, settings = sys.argv[1:]
        kept.SNAPSHOT_EVERY, kept.SNAPSHOT_SHARE = 0.0, float("inf")
        parallel.UNIT_SECONDS, parallel.ALONE = 0.01, 0.05
        left = int(patience)

        def dying(write):
            def keep(*arguments):
                global left
                write(*arguments)
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return keep

        for name in "keep", "add":
            setattr(checkpoint.Checkpoint, name, dying(getattr(checkpoint.Checkpoint, name)))
        try:
            (report,) = explore_many(
                "story:scenario", [server], workers=int(workers), checkpoint=path or None, **json.loads(settings)
            )
        except SimError as exc:
            print(json.dumps([type(exc).__name__, exc.exit_code, str(exc)]))
        else:
            print(json.dumps(report.to_json() | {"seconds": 0, "reruns": report.reruns}))
"""
STATES: dict[str, Any] = {"reduce": "states"}
BOTH: dict[str, Any] = {"reduce": "classes,states", "params": {"pongs": True}}
CLASSES: dict[str, Any] = {"reduce": "classes", "params": {"pongs": True, "order": "any"}}
RANDOM: dict[str, Any] = {"search": "random", "max_runs": 60}
COVERAGE: dict[str, Any] = {"search": "coverage", "max_runs": 60}
EXHAUSTIVE: dict[str, Any] = {"params": {"messages": 2}, "max_runs": 60}


class Place:
    """A directory with a story and its application, in which processes search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in ("ours", APPLICATIONS), ("story", STORY), ("main", MAIN):
            (path / f"{name}.py").write_text(textwrap.dedent(text))
        self.file = path / "it.checkpoint"

    def search(
        self, app: str, settings: dict[str, Any], seed: int | None, *, die: int = 0, keep: bool = True, workers: int = 1
    ) -> Any:
        """What a process with that seed of Python's hashes says; it is killed behind the n-th snapshot."""
        asked = settings | {"params": {**settings.get("params", {}), "app": app}}
        process = subprocess.run(
            [
                *(sys.executable, str(self.path / "main.py"), str(die), str(workers), UVICORN),
                *(str(self.file) if keep else "", json.dumps(asked)),
            ],
            env={**os.environ, "PYTHONHASHSEED": "random" if seed is None else str(seed)},
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert process.returncode == (-9 if die else 0), process.stderr
        return json.loads(process.stdout) if not die else None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("app", "settings", "what"),
    [
        ("held", STATES, "the states that it passes"),
        ("held", BOTH, "the states that it passes"),
        ("said", STATES, "its events"),
        ("said", CLASSES, "its events"),
        ("said", COVERAGE, "its events"),
        ("said", EXHAUSTIVE, "its events"),
    ],
)
def test_what_depends_on_the_seed_of_hashes_is_refused(
    place: Place, app: str, settings: dict[str, Any], what: str
) -> None:
    place.search(app, settings, 1, die=2)
    kept = place.file.read_bytes()
    for seed in (2, 3) if settings is STATES else (2,):
        name, code, message = place.search(app, settings, seed)
        assert (name, code) == ("Divergence", 3), message
        assert f"--checkpoint {place.file}: a run that it holds comes otherwise here; what differs is {what}" in message
        assert "depends on the seed of Python's hashes, and differs under PYTHONHASHSEED=1 and 2. Line by" in message
        assert "ours.py:" in message
        assert "it depends on the order of a set" in message
        assert "begun with PYTHONHASHSEED=1: set that to go on" in message
        assert place.file.read_bytes() == kept
    assert place.search(app, settings, 1) == place.search(app, settings, 1, keep=False)
    if settings is STATES:  # what is finished is not told where it is not true
        assert place.search(app, settings, 2)[0] == "Divergence"


@pytest.mark.parametrize(
    ("app", "settings"),
    [("held", CLASSES), ("held", RANDOM), ("held", EXHAUSTIVE), ("sorted_out", STATES), ("sorted_out", BOTH)],
)
def test_what_does_not_matter_is_not_refused(place: Place, app: str, settings: dict[str, Any]) -> None:
    """An order that shows in no run, where states are not told apart; and a set that is a set."""
    place.search(app, settings, 1, die=2)
    place.search(app, settings, 2, die=2)
    place.search(app, settings, None, die=1)
    assert place.search(app, settings, 3) == place.search(app, settings, 4, keep=False)


def test_a_seed_that_nobody_knows(place: Place) -> None:
    place.search("held", STATES, None, die=3)
    name, _, message = place.search("held", STATES, None)
    assert name == "Divergence"
    assert "Delete the file, and begin anew with PYTHONHASHSEED=0 for this and whatever resumes it." in message


@pytest.mark.parametrize(
    ("settings", "what"), [(STATES, "its events"), (RANDOM, "its events"), (EXHAUSTIVE, "its events")]
)
@pytest.mark.parametrize("finished", [False, True])
def test_an_application_that_was_changed_is_another_search(
    place: Place, settings: dict[str, Any], what: str, finished: bool
) -> None:
    """Also if the search was over: its answer is of the application that there was then."""
    place.search("sorted_out", settings, None, die=0 if finished else 2)
    kept = place.file.read_bytes()
    ours = place.path / "ours.py"
    ours.write_text(ours.read_text().replace("sorted(names)", "sorted(names)[:2]"))
    name, code, message = place.search("sorted_out", settings, None)
    assert (name, code) == ("UsageError", 2)
    assert f"what differs is {what}. The likeliest cause: the application" in message
    assert "(hardly the seed of Python's hashes: PYTHONHASHSEED=1, 2, 3 give what is here)" in message
    assert message.endswith("or delete the file to begin anew.")
    assert place.file.read_bytes() == kept


def test_workers_with_other_seeds_notice(place: Place) -> None:
    """Without a checkpoint, too: what one worker has found is the other's."""
    settings = EXHAUSTIVE | {"max_runs": 500, "params": {"messages": 3}}
    name, code, message = place.search("said", settings, None, keep=False, workers=2)
    assert (name, code) == ("Divergence", 3)
    assert "a run that another worker made comes otherwise here" in message
    assert message.endswith("Set PYTHONHASHSEED=0 for all processes of the search.")
    report = place.search("said", settings, 5, keep=False, workers=2)
    assert report == place.search("said", settings, 5, keep=False)


def test_witnesses_are_few_and_the_first_stays() -> None:
    def witness(number: int) -> Witness:
        return Witness((number,), (("events", str(number)),), ordered=True, unlike=(3,), seed="7")

    witnesses = Witnesses(map(witness, range(1000)))
    kept = [w.picks[0] for w in witnesses]
    assert (kept[0], kept[-1]) == (0, 999)
    assert kept == sorted(kept)
    assert MOST / 2 <= len(kept) <= MOST
    assert len(witnesses.few) == FEW
    assert [Witness.from_json(json.loads(json.dumps(w.to_json()))) for w in witnesses] == list(witnesses)


@pytest.mark.parametrize("server", [UVICORN, "hypercorn", "granian==1.4.1", "reference"])
@pytest.mark.parametrize("reduce", ["states", "classes,states", "none"])
def test_a_court_hears_its_own_witnesses(server: str, reduce: str) -> None:
    runner, question = asked(server, reduce)
    with Court(runner, question).session():
        made = Court(runner, question)
        witnesses = [made.witness(picks, ordered=picks == ()) for picks in [(), (1,), (0, 0, 1)]]
        court = Court(runner, question)
        assert [court.differs(w) for w in reversed(witnesses)] == [None] * 3
        assert court.hear(witnesses, "it") is None
        assert ("states" in dict(witnesses[0].shows)) == (reduce != "none")
        # Each thing that it shows is looked at.
        for name, _ in witnesses[0].shows:
            other = Witness((), tuple((n, "7" if n == name else s) for n, s in witnesses[0].shows), ordered=True)
            assert court.differs(other) == name
        assert court.differs(Witness((99,), witnesses[0].shows)) == "choices"


def test_what_cannot_be_seen_into_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fingerprint is another one each time."""
    runner, question = asked(UVICORN, "states")
    court = Court(runner, question)
    look = court._fingerprinter.of  # type: ignore[union-attr]
    looks = 0

    def of(world: Any) -> bytes:
        nonlocal looks
        looks += 1
        key = look(world)
        return bytes([looks % 256]) * 16 if len(world.choices.made) == 3 else key

    monkeypatch.setattr(court._fingerprinter, "of", of)
    with court.session():
        witness = court.witness(())
        assert witness.unlike
        assert court.hear([witness], "it") is None


def test_the_first_run_of_a_process_may_be_like_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, question = asked("reference", "none")
    court = Court(runner, question)
    with court.session():
        witness = court.witness(())
        whole = Court.shows
        for cold, refused in (1, None), (2, UsageError):
            calls = iter(range(100))

            def shows(self: Court, witness: Witness, calls: Any = calls, cold: int = cold) -> dict[str, str]:
                return whole(self, witness) | ({"events": "cold"} if next(calls) < cold else {})

            monkeypatch.setattr(Court, "shows", shows)
            monkeypatch.setattr(Court, "_ask", lambda *_: None)
            error = court.hear([witness], "it")
            assert error is None if refused is None else isinstance(error, refused)
            assert not isinstance(error, Divergence)


def asked(server: str, reduce: str) -> tuple[Any, Question]:
    question = Question(reduce=reduce)
    return question.runner(find_scenario("independent_echoes"), find_subject(server)), question


@pytest.mark.parametrize(
    ("answers", "file", "error", "said"),
    [
        (Answers({"events": "others"}, None), "it", Divergence, "differs from process to process. Delete the file"),
        (Answers({"events": "x"}, ("1", "3")), None, Divergence, "differs under PYTHONHASHSEED=1 and 3. Set PYTHON"),
        (None, "it", UsageError, r"library was changed since then\. Ask with what there was then"),
        (None, None, UsageError, r"workers do not have the same code\. Give all of them the same files"),
    ],
)
def test_a_refusal_says_no_more_than_is_known(
    monkeypatch: pytest.MonkeyPatch, answers: Answers | None, file: str | None, error: type[Exception], said: str
) -> None:
    """What processes with known seeds have answered: they differ from this one, or from each other, or cannot be asked."""
    runner, question = asked("reference", "none")
    court = Court(runner, question)
    monkeypatch.setattr(court, "_ask", lambda _: answers)
    with court.session():
        refusal = court.hear([Witness((), (("events", "17"),))], file)
    assert type(refusal) is error
    assert re.search(said, str(refusal))
