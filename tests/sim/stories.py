"""A module of stories for tests in which workers have to find it, and what their reports say."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from sim import Report

STORIES = """
    import os, time
    from models.http1 import HttpClient
    from models.application import Application
    from sim import Scenario, always, Violation

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            if os.environ.get("TEST_FAIL_STARTUP"):
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    def play(world, subject, ways):
        server = subject.serve(world, Application("stories:app"))
        for number in range(5):
            world.choose(range(ways), "way")

        async def client(host):
            http = HttpClient(host)
            await http.connect(server.address)
            await http.request("/")
            http.close()

        world.start_script("client", client)

    from sim import Param, Settings
    scenario = Scenario(
        "stories:scenario",
        "A story.",
        play,
        (),
        params=(Param("ways", 1, "ways"),),
        settings=lambda **_: Settings(latency=(0.0, 0.0), settle=0.0),
    )
    import multiprocessing

    def deadly(**_):
        if multiprocessing.parent_process() is not None:
            os._exit(7)
        return Settings(settle=0.0)

    killer = Scenario("stories:killer", "Kills its workers.", play, (), settings=deadly)
"""


def write_stories(where: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write `stories.py` to a directory, which becomes the current one, also for workers."""
    (where / "stories.py").write_text(textwrap.dedent(STORIES))
    monkeypatch.chdir(where)
    monkeypatch.syspath_prepend(str(where))
    sys.modules.pop("stories", None)
    return where


def plain(report: Report) -> dict[str, Any]:
    record = report.to_json()
    del record["seconds"]
    return record
