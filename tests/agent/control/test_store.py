"""Questions and answers on disk: every order of replies, by brute force, and every ending."""

import itertools
import sqlite3

import pytest

from agent.control_store import MAX_ANSWERS, ControlStore, StoreError, Verdict
from protocols.control import Outcome, ReplyReason

REASONS = {Outcome.DECLINED: ReplyReason.TIME, Outcome.FAILED: ReplyReason.SCANNER}
LIVES = [
    life
    for yes in (Outcome.ACCEPTED, Outcome.MODIFIED)
    for end in (Outcome.DONE, Outcome.FAILED)
    for life in ((yes, end), (yes, Outcome.SCHEDULED, end))
] + [(Outcome.DECLINED,)]
"""All that may happen to a question."""


@pytest.fixture
def reply(answer, question):
    def make(outcome, id, asked=None):
        fields = {"reason": REASONS.get(outcome)}
        if outcome is Outcome.MODIFIED:
            fields["steps"] = question().steps
        return answer(outcome, id, asked, **fields)

    return make


def test_what_counts_is_the_beginning_of_one_life(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    yes, no, queued, done = Outcome.ACCEPTED, Outcome.DECLINED, Outcome.SCHEDULED, Outcome.DONE
    orders = [
        *itertools.product((yes, no, queued, done), repeat=3),
        *itertools.product((Outcome.MODIFIED, queued, Outcome.FAILED), repeat=3),
    ]
    for number, outcomes in enumerate(orders):
        asked = question(number).id
        store.ask(question(number), 0.0)
        counted = ()
        for place, outcome in enumerate(outcomes):
            follows = any(life[: len(counted) + 1] == (*counted, outcome) for life in LIVES)
            verdict = store.record(reply(outcome, f"r{place}", asked), 1.0)
            assert (verdict is Verdict.COUNTS) == follows
            counted += (outcome,) if follows else ()
        assert store.state(asked) == (counted[-1] if counted else "open")
        recorded = store.replies(asked)
        assert [each.message.outcome for each in recorded] == list(outcomes)
        assert [each.verdict for each in recorded].count(Verdict.COUNTS) == len(counted)
        assert [each for each in store.unhandled() if each.message.request == asked] == [
            each for each in recorded if each.verdict is Verdict.COUNTS
        ]
    store.close()


def test_another_answer_with_an_id_of_before_does_not_count(tmp_path, question, reply):
    """Or a console which had declined would be told that it may scan."""
    store = ControlStore(tmp_path / "store")
    store.ask(question(), 0.0)
    declined = reply(Outcome.DECLINED, "r1")
    assert store.record(declined, 1.0) is Verdict.COUNTS
    assert store.record(reply(Outcome.ACCEPTED, "r1"), 2.0) is Verdict.SECOND
    assert store.record(declined, 3.0) is Verdict.COUNTS
    assert store.state(question().id) == Outcome.DECLINED
    store.close()


def test_progress_with_the_id_of_the_answer_does_not_count(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    store.ask(question(), 0.0)
    assert store.record(reply(Outcome.ACCEPTED, "r1"), 1.0) is Verdict.COUNTS
    assert store.record(reply(Outcome.DONE, "r1"), 2.0) is Verdict.OUT_OF_ORDER
    assert store.state(question().id) == Outcome.ACCEPTED
    store.close()


def test_nobody_else_reads_it(tmp_path, question):
    store = ControlStore(tmp_path / "store")
    store.ask(question(), 0.0)
    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    assert modes.keys() >= {"store", "store-wal"} and not any(modes.values())
    store.close()


def test_the_countdown_ends_to_the_second(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    store.ask(question(1, 60.0), 1000.0)
    store.ask(question(2, 70.0), 1000.0)
    assert store.expire(1059.9) == 0
    assert store.expire(1060.0) == 1
    assert [asked.request.id for asked in store.open()] == [question(2).id]
    assert store.state(question().id) == "timed_out"
    (silence,) = store.unhandled()
    assert silence.message.reason is ReplyReason.NO_ANSWER
    assert store.record(reply(Outcome.ACCEPTED, "a"), 1060.1) is Verdict.LATE
    assert store.record(reply(Outcome.DONE, "b"), 1060.2) is Verdict.OUT_OF_ORDER
    assert store.unhandled() == [silence]
    store.close()


def test_a_late_answer_is_late_although_nobody_looked_at_the_clock(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    store.ask(question(countdown_s=60.0), 0.0)
    assert store.record(reply(Outcome.ACCEPTED, "a"), 60.1) is Verdict.LATE
    store.close()


def test_all_is_there_when_the_file_is_opened_again(tmp_path, question, reply):
    first = ControlStore(tmp_path / "store")
    first.ask(question(1), 0.0)
    first.ask(question(2), 0.0)
    first.record(reply(Outcome.ACCEPTED, "a"), 1.0)
    first.close()
    second = ControlStore(tmp_path / "store")
    assert [asked.request for asked in second.open()] == [question(2)]
    (accepted,) = second.unhandled()
    second.handled(accepted.number)
    assert second.unhandled() == []
    assert second.record(reply(Outcome.ACCEPTED, "a"), 2.0) is Verdict.COUNTS  # said again
    assert second.replies(question().id) == [accepted]
    second.close()


def test_a_console_out_of_order_does_not_fill_the_disk(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    store.ask(question(), 0.0)
    for number in range(2 * MAX_ANSWERS):
        store.record(reply(Outcome.DONE, f"r{number}"), 1.0)
    assert len(store.replies(question().id)) == MAX_ANSWERS
    assert store.record(reply(Outcome.ACCEPTED, "a"), 2.0) is Verdict.COUNTS
    store.close()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "store"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="expected a SQLite file"):
        ControlStore(path)
    with pytest.raises(StoreError, match="expected a SQLite file, or room for one"):
        ControlStore(path / "below")


def test_any_tool_reads_it(tmp_path, question, reply):
    store = ControlStore(tmp_path / "store")
    store.ask(question(), 0.0)
    store.record(reply(Outcome.ACCEPTED, "a"), 1.0)
    store.close()
    with sqlite3.connect(tmp_path / "store") as db:
        assert db.execute("SELECT id, state FROM requests").fetchall() == [
            (question().id, "accepted")
        ]
