"""The whole loop with the agent as a process: a small simulated exam, a question, extra slices."""

import numpy as np

from agent.audit_chain import records, verify
from protocols.control import Outcome
from protocols.geometry import slab


def test_what_is_seen_is_asked_for_scanned_and_comes_back_under_the_same_exam(start, small):
    agent, exam, received = start("always"), small.exam(), []
    with small.console(agent, exam, received) as console:
        received.append(small.scan(agent, exam[0]))
        console.acquired(exam[0])
        console.finish(small.deadline_s)
        (request,) = console.requests
        (ended,) = agent.waited(console, "exam")
    (step,) = request.steps
    first, extra = received
    assert len(first.images) == 3
    headers = np.stack([image.header for image in extra.images])
    found = slab(headers, (1, *step.slab.matrix[::-1]))
    assert np.allclose(found.centre, step.slab.centre, atol=1e-3)
    assert np.allclose(found.directions, step.slab.directions, atol=1e-5)
    assert (found.slices, found.matrix) == (step.slab.slices, step.slab.matrix)
    (back,) = [each for each in console.telemetry if each.topic == "scan"]
    assert back.exam == ended.exam == request.exam
    assert back.values == {"request": request.id, "step": "si_stir_cor", "as_asked": True}
    agent.stop()
    assert not verify(agent.folder / "audit").problems
    entries = [record.entry for record in records(agent.folder / "audit")]
    assert {entry.kind for entry in entries} == {
        "findings", "evaluation", "request", "reply", "scan"
    }  # fmt: skip
    (asked,) = [entry for entry in entries if entry.kind == "request"]
    assert asked.decision_s > 0
    assert [entry.reply.outcome for entry in entries if entry.kind == "reply"] == [
        Outcome.ACCEPTED,
        Outcome.SCHEDULED,
        Outcome.DONE,
    ]
    uid = exam[0].identity.uid("study")
    for path in (agent.folder / "audit").iterdir():
        assert uid not in path.read_text()
    findings = [entry.findings for entry in entries if entry.kind == "findings"]
    assert [each.series for each in findings] == [("stir_sag",), ("stir_sag", "si_stir_cor")]


def test_where_nothing_is_seen_nothing_is_asked(start, small):
    agent, exam, received = start("never"), small.exam(), []
    with small.console(agent, exam, received) as console:
        received.append(small.scan(agent, exam[0]))
        console.acquired(exam[0])
        console.finish(small.deadline_s)
        assert agent.waited(console, "exam")
        assert console.requests == [] and len(received) == 1
    agent.stop()
    kinds = {record.entry.kind for record in records(agent.folder / "audit")}
    assert kinds == {"findings", "evaluation"}
