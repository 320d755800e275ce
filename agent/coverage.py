"""Coverage on demand: from findings to a question, and from its answer to the scanned series.

    coverage = Coverage(protocols, "lumbar", policy, store, audit, channel)
    coverage.start()                              # questions of an earlier process go on
    coverage.tell(exam, update)                   # the console, of an exam: ExamUpdate
    coverage.update(findings, labels, last_readout_ns)      # after each series
    coverage.joined(exam, series)                 # is this series one that was asked for?
    coverage.end(exam)

`agent.triggers` decides, `gadgets.prescribe` lays the slices, the control channel asks; here they
meet. Whether a question has run out is the channel's word alone. Everything is in the audit, and
saved, before anything is asked.
"""

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from agent import log
from agent.audit import Audit
from agent.audit_records import Event
from agent.control_store import WITHDRAWN, Reply, Verdict
from agent.coverage_answers import answered
from agent.coverage_channel import Channel
from agent.coverage_context import context, told
from agent.coverage_steps import as_asked, prescribed, request
from agent.coverage_store import Course, CoverageStore, Question
from agent.exam_telemetry import of_decision, telemetry
from agent.trigger_site import Site, SitePolicy
from agent.trigger_states import Decision
from agent.triggers import Triggers
from gadgets.items import LabelMap, Series
from protocols.control import (
    ControlError,
    ExamUpdate,
    Withdraw,
    WithdrawReason,
)
from protocols.exam import ExamProtocol
from protocols.findings import ExamFindings

SENT_S = 0.5
"""How long is waited for a question to be on the wire, to say how long the decision took."""
IDLE_S = 3600.0
"""An exam of which nothing was heard for so long has ended."""
REPLIES_S = 0.5


class Coverage:
    """The loop, for all exams of one scanner. Its methods may be called from any thread.

    Parameters
    ----------
    protocols : mapping of str to ExamProtocol
    default : str
        Protocol of exams whose console names none.
    policy : SitePolicy
    store : CoverageStore
    audit : Audit
    channel : Channel
        They stay open after `close`.
    """

    def __init__(
        self,
        protocols: Mapping[str, ExamProtocol],
        default: str,
        policy: SitePolicy,
        store: CoverageStore,
        audit: Audit,
        channel: Channel,
    ) -> None:
        self._protocols = protocols
        self._default = default
        self._store = store
        self._audit = audit
        self._channel = channel
        self._log = log.get(part="coverage")
        state, self._day = store.site()
        self._site = Site(policy, state)
        self._courses: dict[str, Course] = {}
        self._labels: dict[str, Sequence[LabelMap]] = {}
        self._heard_s: dict[str, float] = {}
        self._clock_s = time.time() - time.monotonic()
        self._lock, self._closing = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._replies, name="coverage", daemon=True)

    def start(self) -> None:
        """Go on with the exams of an earlier process, and begin to listen for answers."""
        with self._lock:
            for course in self._store.open():
                self._courses[course.exam] = course
                self._heard_s[course.exam] = time.monotonic()
                try:
                    self._resume(course)
                except (ValueError, KeyError) as error:
                    self._log.error("exam cannot go on", exam=course.exam, reason=str(error))
                    for question in course.questions:
                        why = "the exam cannot go on"
                        self._take_back(question.request.id, WithdrawReason.EXAM_ENDED, why)
                    self._close_course(course)
        self._thread.start()

    def tell(self, exam: str, update: ExamUpdate) -> None:
        """Take in what a console says of an exam."""
        with self._lock:
            course = self._course(exam)
            if course.ended or (update.ended and not course.machine):
                return
            if update.protocol not in (None, course.protocol):
                if course.machine is None and update.protocol in self._protocols:
                    course.protocol = str(update.protocol)
                else:
                    self._log.warning("protocol not used", exam=exam, protocol=update.protocol)
                    self._publish("exam", exam, protocol=course.protocol, refused=update.protocol)
            course.told = told(update, self._now_s())
            if update.ended:
                self._end(course)
                return
            self._save(course)
            if course.findings is not None:
                self._evaluate(course, course.findings, None)

    def update(
        self, findings: ExamFindings, labels: Sequence[LabelMap], last_readout_ns: int | None
    ) -> None:
        """Take in what triage says after a series, and ask where that calls for it.

        Parameters
        ----------
        findings : ExamFindings
        labels : sequence of LabelMap
            Of the exam's series, the latest first.
        last_readout_ns : int or None
            Of that series, monotonic clock.
        """
        with self._lock:
            course = self._course(findings.exam)
            if not course.ended:
                self._labels[course.exam] = labels
                self._evaluate(course, findings, last_readout_ns)

    def findings(self, exam: str) -> ExamFindings | None:
        """Return the latest findings of an exam, also those of an earlier process."""
        with self._lock:
            return self._course(exam).findings

    def joined(self, exam: str, series: Series) -> str | None:
        """Return the id of the request that a series was scanned for, None where of none."""
        with self._lock:
            course = self._course(exam)
            for question in course.questions:
                self._catch_up(course, question)
                for step in question.steps:
                    if step.step != series.name or step.step in question.scanned:
                        continue
                    question.scanned.append(step.step)
                    asked = question.request.id
                    self._audit.scan_done(exam, asked, step.step, series.name, len(series.data))
                    self._save(course)
                    same = as_asked(series, step.slab)
                    if not same:
                        self._log.warning("not scanned where asked", request=asked, step=step.step)
                    self._publish("scan", exam, request=asked, step=step.step, as_asked=same)
                    return asked
        return None

    def end(self, exam: str) -> None:
        """End an exam: its open question is taken back."""
        with self._lock:
            course = self._course(exam)
            if not course.ended:
                self._end(course)

    def close(self) -> None:
        """Stop; exams go on in the next process."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    # All below is called with the lock held.

    def _course(self, exam: str) -> Course:
        self._heard_s[exam] = time.monotonic()
        if (found := self._courses.get(exam)) is None:
            found = self._store.course(exam) or Course(
                exam=exam, protocol=self._default, began_s=self._now_s()
            )
            self._courses[exam] = found
        return found

    def _machine(self, course: Course) -> Triggers:
        protocol = self._protocols[course.protocol]
        if course.machine is not None:
            return Triggers.resume(protocol, course.machine)
        today = date.today()
        if self._day not in (None, today):
            self._site.new_session()
        self._day = today
        return Triggers(protocol, course.exam, self._site.standing(protocol), self._now_s())

    def _evaluate(
        self, course: Course, findings: ExamFindings, last_readout_ns: int | None
    ) -> None:
        self._resume(course)
        protocol, machine = self._protocols[course.protocol], self._machine(course)
        self._reconsider(course, machine, findings)
        now_s = self._event_s(machine)
        around = context(course, protocol, findings)
        decision = self._note(machine, machine.update(findings, around, now_s), Event.UPDATE)
        question = None
        while proposal := decision.proposal:
            steps = prescribed(protocol, proposal, self._labels.get(course.exam, ()))
            if not isinstance(steps, str):
                asked = request(proposal, steps, self._now_s())
                question = Question(request=asked, asked_s=self._now_s())
                others = [each for each in course.questions if each.request.id != asked.id]
                course.questions = [*others, question]
                break
            # Nobody has seen it: another trigger has its turn.
            self._note(machine, machine.withdraw(proposal.id, steps, now_s), Event.WITHDRAW)
            decision = self._note(machine, machine.update(findings, around, now_s), Event.UPDATE)
        course.machine, course.findings = machine.state, findings
        self._save(course)
        if question is not None:
            self._ask(course, question, last_readout_ns)

    def _reconsider(self, course: Course, machine: Triggers, findings: ExamFindings) -> None:
        """Take a question back where nothing that called for it is there any more."""
        asked = machine.question
        if asked is None or findings.abstained or not asked.findings:
            return
        if {finding.id for finding in findings.findings} & {each.id for each in asked.findings}:
            return
        why = f"after {findings.series[-1]} nothing is found that called for it"
        if self._take_back(asked.id, WithdrawReason.FINDINGS_CHANGED, why):
            decision = machine.withdraw(asked.id, why, self._event_s(machine))
            self._note(machine, decision, Event.WITHDRAW)

    def _ask(self, course: Course, question: Question, last_readout_ns: int | None) -> None:
        asked = question.request
        try:
            self._channel.request(asked)
        except ControlError as error:
            machine = self._machine(course)
            decision = machine.withdraw(asked.id, str(error), self._event_s(machine))
            self._note(machine, decision, Event.WITHDRAW)
            course.machine = machine.state
            self._save(course)
            return
        sent_ns = self._channel.sent_ns(asked.id, SENT_S)
        seconds = None
        if last_readout_ns and sent_ns:
            seconds = max(0.0, (sent_ns - last_readout_ns) / 1e9)
        self._audit.request(asked, seconds)
        question.audited = True
        self._save(course)
        self._log.info("coverage asked for", request=asked.id, decision_seconds=seconds)
        self._publish(
            "request",
            course.exam,
            request=asked.id,
            trigger=asked.trigger,
            text=asked.text,
            minutes=asked.extra_minutes,
            steps=", ".join(step.step for step in asked.steps),
            console=sent_ns is not None,
            decision_seconds=seconds,
        )

    def _resume(self, course: Course) -> None:
        """Have the channel know what this exam has asked, as far as it does not."""
        if course.machine is None:
            return
        machine = self._machine(course)
        asked = machine.question
        if asked is None or (question := course.question(asked.id)) is None:
            return
        state = self._channel.state(asked.id)
        if state == WITHDRAWN:
            decision = machine.withdraw(asked.id, "taken back", self._event_s(machine))
            self._note(machine, decision, Event.WITHDRAW)
            course.machine = machine.state
            self._save(course)
        elif state is None:
            left_s = max(0.0, asked.expires_s - self._now_s())
            question.request = question.request.model_copy(update={"countdown_s": left_s})
            self._ask(course, question, None)
        elif not question.audited:
            self._audit.request(question.request)
            question.audited = True
            self._save(course)

    def _replies(self) -> None:
        while not self._closing.is_set():
            try:
                for reply in self._channel.replies(REPLIES_S):
                    with self._lock:
                        exam = reply.message.request.partition("/")[0]
                        if course := self._courses.get(exam) or self._store.course(exam):
                            self._take(course, reply)
                with self._lock:
                    self._sweep()
            except Exception as error:
                # A full disk, say: a reply that was not taken in comes again.
                self._log.error("coverage stumbled", exc_info=error)
                self._closing.wait(REPLIES_S)

    def _catch_up(self, course: Course, question: Question) -> None:
        """Take in the replies that are there, whoever comes first."""
        for reply in self._channel.recorded(question.request.id):
            if reply.verdict is Verdict.COUNTS:
                self._take(course, reply)

    def _take(self, course: Course, reply: Reply) -> None:
        """Take in a reply that counts."""
        message = reply.message
        question = course.question(message.request)
        if question is None or reply.number <= question.heard:
            return
        took_s = max(0.0, reply.at_s - question.asked_s)
        self._audit.reply(course.exam, message, True, took_s)
        machine = self._machine(course)
        decision, event = answered(machine, question, message, reply.at_s)
        self._note(machine, decision, event)
        course.machine, question.heard = machine.state, reply.number
        self._save(course)
        self._publish(
            "reply",
            course.exam,
            request=message.request,
            outcome=message.outcome,
            reason=message.reason,
            seconds=took_s,
        )

    def _end(self, course: Course) -> None:
        if course.machine is None:
            self._close_course(course)
            return
        machine = self._machine(course)
        asked = machine.question
        why = WithdrawReason.EXAM_ENDED
        if asked and not self._take_back(asked.id, why, "the exam has ended"):
            for question in course.questions:
                self._catch_up(course, question)
            machine = self._machine(course)
        self._note(machine, machine.end(self._event_s(machine)), Event.END)
        for question in course.questions:
            for reply in self._channel.recorded(question.request.id):
                if reply.verdict is not Verdict.COUNTS:
                    self._audit.reply(course.exam, reply.message, False)
        course.machine = machine.state
        self._site.record(self._protocols[course.protocol], machine.state)
        self._store.save_site(self._site.state, self._day or date.today())
        self._close_course(course)
        self._publish("exam", course.exam, ended=True)

    def _close_course(self, course: Course) -> None:
        course.ended = True
        self._save(course)
        for kept in (self._courses, self._labels, self._heard_s):
            kept.pop(course.exam, None)

    def _sweep(self) -> None:
        for exam, course in list(self._courses.items()):
            if time.monotonic() - self._heard_s.setdefault(exam, time.monotonic()) >= IDLE_S:
                if not course.ended:
                    self._end(course)
                self._courses.pop(exam, None)

    def _take_back(self, request: str, reason: WithdrawReason, why: str) -> bool:
        message = Withdraw(id=uuid.uuid4().hex, request=request, reason=reason, detail=why)
        return self._channel.withdraw(message)

    def _note(self, machine: Triggers, decision: Decision, event: Event) -> Decision:
        """Put a decision into audit and telemetry."""
        self._audit.decision(machine, decision, event)
        for each in of_decision(machine.state.exam, decision):
            self._channel.publish(each)
        return decision

    def _event_s(self, machine: Triggers) -> float:
        """Return the time of an event; an open question runs out by the channel's word only."""
        asked = machine.question
        now_s = self._now_s()
        return now_s if asked is None else min(now_s, asked.expires_s - 1e-3)

    def _now_s(self) -> float:
        """Return the time, which no correction of the wall clock makes jump."""
        return self._clock_s + time.monotonic()

    def _save(self, course: Course) -> None:
        self._store.save(course, self._now_s())

    def _publish(self, topic: str, exam: str, **values: Any) -> None:
        self._channel.publish(telemetry(topic, exam, **values))
