"""Each test of this directory runs twice: on Linux's loopback, and in a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .arms import LinuxArm, Loopback, Simulated, SimulatedArm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .arms import Arm, Net


@pytest.fixture(params=[pytest.param(Loopback, id="linux"), pytest.param(Simulated, id="simulated")])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Net]:
    """A kernel, for bodies at socket level."""
    kernel = request.param(str(tmp_path))
    yield kernel
    kernel.close()


@pytest.fixture(params=[pytest.param(LinuxArm, id="linux"), pytest.param(SimulatedArm, id="simulated")])
def arm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arm]:
    """An event loop, for bodies at asyncio level."""
    where = request.param(str(tmp_path))
    yield where
    where.close()
