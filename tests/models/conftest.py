"""Fixtures for the tests of the models."""

from __future__ import annotations

import pytest

from sim.world.boundary import Boundary


@pytest.fixture(scope="module")
def worlds():
    """Stay inside the boundary between one world and the next: going in and out costs more than most worlds."""
    with Boundary():
        yield
