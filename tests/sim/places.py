"""A stand-in for environments: the process is real, and runs this very interpreter, so nothing is installed."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PLACES = """
    import sys
    from importlib import metadata
    from pathlib import Path
    from models.environments.door import door
    from models.environments.make import Environment
    from models.environments.prepare import BEGIN, Place
    from sim import UsageError

    CALLS = []

    def prepare(requirement, *, model, also=(), python=None, versions=None, say=None):
        CALLS.append((requirement, model, also, python, versions))
        if python == "3.99":
            raise UsageError("pip says: no such thing")
        if say is not None:
            say(f"preparing {requirement}")
        environment = Environment(Path(sys.prefix), "3", {})
        return Place(environment, (sys.executable, "-c", BEGIN, str(door())))
"""


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry find the stand-in, in this process and in those that it starts."""
    info = directory / "places_of_tests-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: places-of-tests\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[asgi_sim.environments]\nprepare = places_of_tests:prepare\n")
    (directory / "places_of_tests.py").write_text(textwrap.dedent(PLACES))
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in (str(directory), os.environ.get("PYTHONPATH")) if p))
    monkeypatch.setenv("ASGI_SIM_CACHE", str(directory / "cache"))
