"""No fault makes a scenario's script break: what comes of it is a verdict, whichever."""

from __future__ import annotations

import pytest

from sim import explore

SCENARIOS = (
    "cancelled_receive",
    "heartbeat",
    "hello",
    "independent_echoes",
    "large_message_then_close",
    "lost_client",
    "racing_clients",
    "unsolicited_pong",
    "workaround",
)
SMALL: dict[str, dict[str, object]] = {
    "heartbeat": {"hours": 0.1, "every": 0.05},
    "large_message_then_close": {"size": 400_000},
}
"""Parameters of stories that are long without them."""
FAULTS = ("fin", "lose", "refuse", "rst", "sigterm", "stall")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fault_is_no_error(scenario, fault):
    report = explore(scenario, server="reference", params=SMALL.get(scenario), faults={fault: 1}, max_runs=60)
    assert report.runs == 60 or report.complete
