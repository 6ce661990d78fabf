"""Garbage is collected between runs, and at no other time."""

from __future__ import annotations

import gc
import weakref

import pytest

from sim.search.collector import COLLECT_EVERY, YOUNG_EVERY, Collector


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def from_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting from 0, whatever ran in this interpreter before."""
    monkeypatch.setattr(Collector, "_runs", 0)


def leave_a_knot() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


def test_what_a_few_runs_have_left_is_collected_behind_them() -> None:
    with Collector():
        left = []
        for _ in range(YOUNG_EVERY):
            assert all(knot() is not None for knot in left)
            with Collector.run():
                left.append(leave_a_knot())
        assert [knot() for knot in left] == [None] * YOUNG_EVERY


def test_what_was_kept_for_a_while_is_collected_in_the_end() -> None:
    """It is no young garbage any more when it is let go of."""
    with Collector():
        kept = Knot()
        knot = weakref.ref(kept)
        for number in range(1, COLLECT_EVERY + 1):
            with Collector.run():
                if number == YOUNG_EVERY + 1:
                    del kept
            assert (knot() is None) == (number == COLLECT_EVERY)


def test_nothing_is_collected_inside_a_run() -> None:
    assert gc.isenabled()
    with Collector():
        for _ in range(3 * YOUNG_EVERY):
            with Collector.run():
                knot = leave_a_knot()
                for _ in range(2_000):
                    Knot()
                assert not gc.isenabled()
                assert knot() is not None
    assert gc.isenabled()


def test_the_last_search_out_collects_and_restores() -> None:
    frozen = gc.get_freeze_count()
    with Collector():
        with Collector():
            pass
        assert not gc.isenabled()
        knot = leave_a_knot()
    assert knot() is None
    assert gc.get_freeze_count() in (0, frozen)


def test_objects_that_existed_before_are_not_looked_at() -> None:
    before = Knot()
    knot = weakref.ref(before)
    with Collector():
        assert gc.get_freeze_count() > 0
        del before
        gc.collect()
        assert knot() is not None
    gc.collect()
    assert knot() is None
