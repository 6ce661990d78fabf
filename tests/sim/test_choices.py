"""The one list of choices: forced picks, policies, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import Divergence
from sim.world.choices import Choices

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_pick_0_is_the_default() -> None:
    choices = Choices()
    assert [choices.choose(n) for n in (2, 3, 17)] == [0, 0, 0]
    assert choices.picks == (0, 0, 0)


@pytest.mark.parametrize("width", [0, 1])
def test_a_question_with_one_answer_leaves_no_record(width: int) -> None:
    choices = Choices(policy=lambda _n: pytest.fail("the policy was asked"))
    assert choices.choose(width, "of one") == 0
    assert choices.made == []


def test_a_question_with_one_answer_takes_no_forced_pick() -> None:
    choices = Choices([1])
    choices.choose(1)
    assert choices.choose(2) == 1


def test_forced_picks_come_first_then_the_policy() -> None:
    asked: list[int] = []

    def policy(width: int) -> int:
        asked.append(width)
        return width - 1

    choices = Choices([2, 0], policy)
    assert [choices.choose(n) for n in (3, 4, 5, 6)] == [2, 0, 4, 5]
    assert asked == [5, 6]


def test_widths_and_labels_are_kept_as_they_were_given() -> None:
    label = object()
    choices = Choices([1])
    choices.choose(2, label)
    (made,) = choices.made
    assert (made.width, made.pick) == (2, 1)
    assert made.label is label


@pytest.mark.parametrize("pick", [2, 7, -1])
def test_a_forced_pick_that_is_not_offered_is_a_divergence(pick: int) -> None:
    choices = Choices([0, pick])
    choices.choose(2)
    with pytest.raises(
        Divergence, match=r"choice 2 of the schedule picks number -?\d, but the world offers 2 .*\(which\)"
    ):
        choices.choose(2, "which")


def test_the_label_is_made_into_text_only_for_the_divergence() -> None:
    class Label:
        texts = 0

        def __str__(self) -> str:
            Label.texts += 1
            return "costly"

    choices = Choices([1, 5])
    choices.choose(2, Label())
    assert Label.texts == 0
    with pytest.raises(Divergence, match="costly"):
        choices.choose(2, Label())


def test_behind_the_limit_every_pick_is_0_and_truncated_says_so() -> None:
    choices = Choices(policy=lambda n: n - 1, limit=2)
    assert [choices.choose(2) for _ in range(2)] == [1, 1]
    assert not choices.truncated
    assert choices.choose(2) == 0
    assert choices.truncated
    assert choices.picks == (1, 1)


def test_forced_picks_are_repeated_beyond_the_limit() -> None:
    choices = Choices([1, 1, 1], limit=1)
    assert [choices.choose(2) for _ in range(4)] == [1, 1, 1, 0]
    assert choices.truncated


@given(st.lists(st.tuples(st.integers(2, 9), st.integers(0, 8)).map(lambda t: (t[0], t[1] % t[0]))))
def test_picks_reproduce_themselves(questions: Sequence[tuple[int, int]]) -> None:
    answers = iter([pick for _, pick in questions])
    first = Choices(policy=lambda _n: next(answers))
    for width, _ in questions:
        first.choose(width)
    again = Choices(first.picks, policy=lambda _n: pytest.fail("a pick was not forced"))
    assert tuple(again.choose(width) for width, _ in questions) == first.picks == again.picks
