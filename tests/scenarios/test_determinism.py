"""One schedule is one trace, byte for byte: from process to process, whatever the hash seed, and again and again."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest

from models.uvicorn import COMBINATIONS
from sim.registry import find_scenario, find_subject
from sim.search.both import reduced
from sim.search.deepening import Deepening
from sim.search.question import Question
from sim.search.runner import Runner
from tests.sim.seeds import said_under

SERVERS = (*COMBINATIONS, "hypercorn", "granian==1.4.1", "reference")
WAYS = 5
"""How many ways of receiving the scenario chooses from: each is played by its first schedules."""

PLAY = """
import json, sys
from tests.scenarios.test_determinism import SERVERS, digests
print(json.dumps({server: digests(server) for server in SERVERS}))
"""


def digests(server: str, times: int = 1) -> list[str]:
    """A digest of the trace of some schedules, each played so many times."""
    runner = Runner(find_scenario("unsolicited_pong"), find_subject(server))
    found = []
    with runner.session():
        for way in range(WAYS):
            for picks in ((way,), (way, 1), (way, 0, 0, 1)):
                for _ in range(times):
                    run = runner.run(picks)
                    found.append(hashlib.sha256(run.trace.to_jsonl().encode()).hexdigest())
    return found


@pytest.fixture(scope="module")
def elsewhere():
    """What three other processes make of the same schedules, each with a hash seed of its own."""
    return said_under(("0", "1", "4711"), PLAY)


@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
def test_in_three_processes_with_different_hash_seeds(elsewhere):
    assert len(set(elsewhere)) == 1
    for server, theirs in json.loads(elsewhere[0]).items():
        assert theirs == digests(server), server


@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
@pytest.mark.parametrize("server", SERVERS)
def test_a_hundred_times_in_one_process(server):
    runner = Runner(find_scenario("unsolicited_pong"), find_subject(server), params={"receiving": "polling"})
    with runner.session():
        traces = {runner.run((1, 0, 1)).trace.to_jsonl() for _ in range(100)}
    assert len(traces) == 1


# States, which a checkpoint carries from one process to another.

STATES = tuple((scenario, server) for scenario in ("lost_client", "unsolicited_pong") for server in SERVERS)
SEARCH = """
import json
from tests.scenarios.test_determinism import STATES, states
print(json.dumps([states(*asked) for asked in STATES]))
"""


def states(scenario: str, server: str) -> str:
    """A digest of the fingerprints that a search by states begins with."""
    found, subject, question = find_scenario(scenario), find_subject(server), Question(reduce=("states",))
    runner = question.runner(found, subject)
    policy, seen = reduced(Deepening, question.reduce, found, subject)
    assert seen is not None
    with runner.session():
        for _ in itertools.islice(policy.runs(question.play(runner, seen)), 25):
            pass
    return hashlib.sha256(json.dumps(seen.visited.to_json()).encode()).hexdigest()


@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
def test_states_in_processes_with_different_hash_seeds():
    said = said_under(("1", "5"), SEARCH)
    here = [states(*asked) for asked in STATES]
    for output in said:
        assert [asked for asked, one, two in zip(STATES, json.loads(output), here, strict=True) if one != two] == []


# The rest of the stack: what OpenSSL makes random is recorded by its length.

STACK = (
    *((combination, {"certificate": True}) for combination in COMBINATIONS),
    ("hypercorn", {"certificate": True}),
    ("hypercorn", {"http": "2"}),
    ("hypercorn", {"http": "2", "certificate": True}),
)
PLAY_STACK = """
import json, sys
from tests.scenarios.test_determinism import STACK, stack_digests
print(json.dumps([stack_digests(server, params, sys.argv[1]) for server, params in STACK]))
"""


def stack_digests(server: str, params: dict[str, object], certificate: str, times: int = 1) -> list[str]:
    """As `digests`, of `hello` over TLS and HTTP/2."""
    given = {**params, "certificate": certificate} if params.get("certificate") else params
    runner = Runner(find_scenario("hello"), find_subject(server), params=given)
    with runner.session():
        return [
            hashlib.sha256(runner.run(picks).trace.to_jsonl().encode()).hexdigest()
            for picks in ((), (1,))
            for _ in range(times)
        ]


def test_tls_and_http2_in_three_processes_with_different_hash_seeds(paper):
    outputs = set(said_under(("0", "1", "4711"), PLAY_STACK, paper.in_one))
    assert len(outputs) == 1
    here = [stack_digests(server, params, paper.in_one) for server, params in STACK]
    assert json.loads(outputs.pop()) == here


@pytest.mark.parametrize(("server", "params"), STACK)
def test_tls_and_http2_a_hundred_times_in_one_process(server, params, paper):
    assert len(set(stack_digests(server, params, paper.in_one, times=50))) <= 2
