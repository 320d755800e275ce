"""The agent is killed between question and answer: the question survives, and so does its exam."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.trigger_states import State
from protocols.control import Outcome
from protocols.exam_library import library
from scanner.console_adapter import Answer

DEADLINE_S = 20.0
EXAM = "exam-" + "7" * 32
YES = Answer(Outcome.ACCEPTED)

ASK = """
import pickle, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import EXAM, Site
from agent import log
from agent.trigger_site import SitePolicy
from protocols.exam_library import library

log.setup()
known = {name: entry.protocol for name, entry in library().items()}
site = Site(Path(sys.argv[1]), SitePolicy(mode="active"), known, 0)
update, findings, labels = pickle.loads(sys.stdin.buffer.read())
site.coverage.tell(EXAM, update)
site.coverage.update(findings, [labels], None)
print(site.channel.port, flush=True)
sys.stdin.buffer.close()
import signal
signal.pause()
"""


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def killed(tmp_path, open_site, update, findings, finding, labels):
    """An agent in a process of its own has asked, and was killed."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", ASK, str(tmp_path), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with process:
        process.stdin.write(pickle.dumps((update(), findings(finding()), labels)))
        process.stdin.close()
        said = process.stdout.readline()
        process.kill()
    assert int(said) > 0


def test_the_question_goes_on_in_the_next_process(killed, open_site, connect):
    site = open_site()
    assert site.state().state is State.PROPOSED
    console = connect(site)
    request = console.happened("ask")
    console.answers.put(YES)
    console.happened("scan")
    wait_for(lambda: site.state().state is State.DONE)
    assert request.id == f"{EXAM}/si-joint-signal/1"
    assert len(site.entries("request")) == 1
    assert site.transitions()[-4:] == ["proposed", "accepted", "scanning", "done"]


def test_the_exam_ends_in_the_next_process(killed, open_site, connect, update):
    site = open_site()
    console = connect(site)
    console.happened("ask")
    site.coverage.tell(EXAM, update(ended=True))
    assert console.happened("withdrawn") == "the exam has ended"


def test_a_question_saved_but_never_asked_is_asked_by_the_next_process(
    open_site, connect, update, findings, finding, labels
):
    """The process ended between its two files."""
    first = open_site()
    first.coverage.tell(EXAM, update())
    first.coverage.update(findings(finding()), [labels], None)
    first.close()
    for path in first.folder.glob("control.sqlite*"):
        path.unlink()
    site = open_site()
    assert connect(site).happened("ask").id == f"{EXAM}/si-joint-signal/1"


def test_an_exam_whose_protocol_was_changed_meanwhile_asks_no_more(killed, open_site, connect):
    changed = library()["lumbar"].protocol.model_copy(update={"revision": 9})
    site = open_site(protocols={"lumbar": changed})
    assert site.courses.course(EXAM).ended
    assert site.questions.open() == []
    assert site.questions.state(f"{EXAM}/si-joint-signal/1") == "withdrawn"


def test_an_answer_is_not_taken_in_twice(open_site, connect, update, findings, finding, labels):
    """The process ended after it had taken the answer in, and before it had noted that."""
    first = open_site()
    console = connect(first)
    first.coverage.tell(EXAM, update())
    first.coverage.update(findings(finding()), [labels], None)
    console.answers.put(YES)
    wait_for(lambda: first.state().state is State.DONE)
    first.questions._connection.execute("UPDATE replies SET handled = 0")
    wait_for(lambda: not first.questions.unhandled())
    assert len(first.entries("reply")) == 3
