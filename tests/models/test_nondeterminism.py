"""Each kind of nondeterminism, planted in an application: it is found on a real server, and the line is named.

What the world answers (clocks and entropy by whatever name) gives the same run again; what it must not let through is
refused; all else is a `Divergence`. In each the message has the line of the application, by file, number and source.
"""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import sim
from sim import BoundaryError, Divergence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UVICORN = "uvicorn[h11,wsproto]"
SERVED = """

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        body = answer().encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""
_numbers = itertools.count()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module with `answer` in it, and give the name of its application."""

    def write(source: str) -> str:
        name = f"planted_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source).lstrip() + SERVED)
        return f"{name}:app"

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return write


DIVERGING: dict[str, tuple[str, str, str]] = {
    "order-of-a-set-of-objects": (
        """
        class Task:
            def __init__(self, name):
                self.name = name

        def answer():
            order = ""
            for task in {Task(name) for name in "abcdefgh"}:
                order += task.name
            return order
        """,
        'for task in {Task(name) for name in "abcdefgh"}:',
        "the order of a set",
    ),
    "order-of-a-set-by-a-comprehension": (
        """
        class Task:
            def __init__(self, name):
                self.name = name

        def answer():
            tasks = {Task(name) for name in "abcdefgh"}
            names = [task.name for task in tasks]
            return "".join(names)
        """,
        "names = [task.name for task in tasks]",
        "the order of a set",
    ),
    "a-set-that-an-object-holds": (
        """
        class Task:
            def __init__(self, name):
                self.name = name

        class Group:
            def __init__(self):
                self.tasks = {Task(name) for name in "abcdefgh"}

        def answer():
            group = Group()
            first = next(iter(group.tasks))
            return first.name
        """,
        "first = next(iter(group.tasks))",
        "the order of a set",
    ),
    "id": (
        """
        def answer():
            thing = object()
            return f"{id(thing)}"
        """,
        'return f"{id(thing)}"',
        "it asks for id()",
    ),
    "hash": (
        """
        class Thing:
            pass

        def answer():
            thing = Thing()
            number = hash(thing)
            return str(number)
        """,
        "number = hash(thing)",
        "it asks for hash()",
    ),
    "repr": (
        """
        def answer():
            thing = object()
            return "I am " + repr(thing)
        """,
        'return "I am " + repr(thing)',
        "the address of an object",
    ),
    "real-time-that-a-container-holds": (
        """
        import time

        CLOCKS = {"now": time.time}

        def answer():
            now = CLOCKS["now"]()
            return str(now)
        """,
        'now = CLOCKS["now"]()',
        "CLOCKS['now'] is a real clock",
    ),
    "real-time-that-a-closure-holds": (
        """
        import time

        def stopwatch(clock):
            def read():
                return clock()
            return read

        read = stopwatch(time.perf_counter)

        def answer():
            return str(read())
        """,
        "return clock()",
        "clock is a real clock",
    ),
    "real-entropy-of-an-extension": (
        """
        import _random

        def answer():
            value = _random.Random().getrandbits(64)
            return str(value)
        """,
        "value = _random.Random().getrandbits(64)",
        "_random.Random gives real entropy",
    ),
    "real-entropy-that-a-container-holds": (
        """
        import os

        SOURCES = [os.urandom]

        def answer():
            token = SOURCES[0](8)
            return token.hex()
        """,
        "token = SOURCES[0](8)",
        "SOURCES[0] gives real entropy",
    ),
    "a-counter-of-a-module": (
        """
        count = 0

        def answer():
            global count
            count += 1
            return f"visitor {count}"
        """,
        "count += 1",
        "it is kept from one run to the next",
    ),
    "a-cache-of-a-module": (
        """
        cache = {}

        def answer():
            if "page" in cache:
                cache["page"] += "!"
            else:
                cache["page"] = "page"
            return cache["page"]
        """,
        'if "page" in cache:',
        "it is kept from one run to the next",
    ),
}


@pytest.mark.parametrize("kind", DIVERGING)
def test_a_divergence_names_the_line(plant: Any, kind: str) -> None:
    source, line, why = DIVERGING[kind]
    app = plant(source)
    importlib.import_module(app[:-4])  # as a test does that imports its application, before any boundary is there
    with pytest.raises(Divergence) as error:
        sim.explore("hello", params={"app": app}, server=UVICORN)
    said = str(error.value)
    at = next(n for n, text in enumerate(textwrap.dedent(source).lstrip().splitlines(), 1) if text.strip() == line)
    assert f"Line by line, the runs part at {os.getcwd()}/{app[:-4]}.py:{at}: {line} (" in said
    assert why in said.partition("Line by line")[2]


ANSWERED = {
    "time": "from time import time as t\ndef answer():\n    return str(t())\n",
    "a-default": "import time\ndef answer(clock=time.monotonic_ns):\n    return str(clock())\n",
    "imported-inside": "def answer():\n    from time import time_ns\n    return str(time_ns())\n",
    "datetime": "from datetime import datetime\ndef answer():\n    return datetime.now().isoformat()\n",
    "urandom": "from os import urandom\ndef answer():\n    return urandom(8).hex()\n",
    "system-random": "import random\ndef answer():\n    return str(random.SystemRandom().random())\n",
    "a-generator": "import random\ndef answer():\n    return str(random.Random().random())\n",
    "secrets": "from secrets import token_hex\ndef answer():\n    return token_hex()\n",
    "uuid": "import uuid\ndef answer():\n    return str(uuid.uuid4()) + str(uuid.uuid1())\n",
    "a-set-of-numbers": "def answer():\n    return ''.join(str(n) for n in {3, 1, 2, 1 << 40})\n",
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_what_the_world_answers_is_the_same_in_each_run(plant: Any, kind: str) -> None:
    report = sim.explore("hello", params={"app": plant(ANSWERED[kind])}, server=UVICORN)
    assert report.verdict == "holds"
    assert report.reruns >= 1


REFUSED = {
    "thread": ("import threading", "threading.Thread(target=print).start()", "threading.Thread.start()"),
    "captured-thread": ("from _thread import start_new_thread as go", "go(print, ())", "threading.Thread.start()"),
    "process": ("import subprocess", 'subprocess.run(["true"])', "subprocess"),
    "sleep": ("from time import sleep", "sleep(0.001)", "time.sleep()"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_boundary_names_the_line(plant: Any, kind: str) -> None:
    imports, line, what = REFUSED[kind]
    app = plant(
        f"{imports}\ndef answer():\n    try:\n        {line}\n    except Exception:\n        pass\n    return ''\n"
    )
    with pytest.raises(BoundaryError) as error:
        sim.explore("hello", params={"app": app}, server=UVICORN)
    assert what in str(error.value)
    assert str(error.value).endswith(f"At {os.getcwd()}/{app[:-4]}.py:4: {line}")


def test_the_command_names_the_line_and_ends_with_3(plant: Any, tmp_path: Path) -> None:
    source, line, why = DIVERGING["order-of-a-set-of-objects"]
    app = plant(source)
    done = subprocess.run(
        [sys.executable, "-m", "sim", "check", "hello", "--param", f"app={app}", "--server", UVICORN, "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert f"{app[:-4]}.py:7: {line}" in done.stderr.replace("\n", " ")
    assert why in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


# Between processes.

RECORD = """
import sys
from sim.registry import find_scenario, find_subject
from sim.search.runner import Runner

runner = Runner(find_scenario("hello"), find_subject(sys.argv[2]), params={"app": sys.argv[1]})
with runner.session():
    run = runner.run()
print(runner.schedule(run).to_blob())
"""
WORDS = """
    def answer():
        words = {"one", "two", "three", "four", "five", "six", "seven", "eight"}
        said = ""
        for word in words:
            said += word
        return said
"""


def python(*arguments: str, seed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONHASHSEED": seed, "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def recorded(app: str, *, seed: str) -> str:
    done = python("-c", RECORD, app, UVICORN, seed=seed)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_replay_under_another_hash_seed_names_the_line(plant: Any) -> None:
    app = plant(WORDS)
    blob = recorded(app, seed="11")
    same = python("-m", "sim", "replay", blob, seed="11")
    assert (same.returncode, same.stderr) == (0, "")
    other = python("-m", "sim", "replay", blob, seed="12")
    assert other.returncode == 3, other.stderr
    said = " ".join(other.stderr.split())
    assert "the schedule gives another run than when it was recorded: it depends on the seed of Python's hashes" in said
    assert (
        f"the runs part at {os.getcwd()}/{app[:-4]}.py:4: for word in words: (it depends on the order of a set" in said
    )
    again = python("-m", "sim", "replay", blob, "--any-version", seed="12")
    assert again.returncode == 0, again.stderr


def test_a_replay_of_what_was_changed_since_says_so(plant: Any, tmp_path: Path) -> None:
    app = plant("def answer():\n    return 'before'\n")
    blob = recorded(app, seed="11")
    assert python("-m", "sim", "replay", blob, seed="12").stderr == ""
    module = tmp_path / f"{app[:-4]}.py"
    module.write_text(module.read_text().replace("'before'", "'since'"))
    done = python("-m", "sim", "replay", blob, seed="12")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: this is not the run that was recorded with the schedule. The application, ")


def test_a_schedule_is_the_same_whatever_digest_it_carries() -> None:
    one, two = (sim.Schedule("hello", UVICORN, (1,), digest=digest) for digest in (None, 7))
    assert one == two
    assert sim.Schedule.from_blob(two.to_blob()).digest == 7
    assert sim.Schedule.from_blob(one.to_blob()).digest is None
