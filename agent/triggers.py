"""The trigger machine: findings of an exam in, at most one question out, each step with its reason.

Deterministic and without clocks: every event carries its time, in seconds of a clock that survives
restarts. What comes out is asked by the coverage loop; nothing here scans anything.

    machine = Triggers(protocol, "exam-7", standing)
    decision = machine.update(findings, context, now_s)     # after each series
    machine.answer(decision.proposal.id, True, now_s)       # or machine.tick(now_s): no answer
    machine.progress(decision.proposal.id, Progress.DONE, now_s)
    Path(...).write_text(machine.state.model_dump_json())   # and Triggers.resume(protocol, state)
"""

from agent import trigger_gates as gates
from agent import trigger_proposal as proposals
from agent.trigger_conditions import Evaluation
from agent.trigger_states import (
    WATCHING,
    Certainty,
    Decision,
    DeclineReason,
    ExamContext,
    ExamState,
    Explanation,
    Progress,
    Proposal,
    Reason,
    Standing,
    State,
    Transition,
    TriggerState,
)
from protocols.exam import ExamProtocol
from protocols.findings import ExamFindings
from protocols.trigger import Trigger

LADDER = (State.IDLE, State.EVIDENCE, State.CANDIDATE, State.CONFIRMED)
"""The state of each certainty."""

WHY = (Reason.NO_EVIDENCE, Reason.EVIDENCE, Reason.ABOVE_THRESHOLD, Reason.PERSISTENT)


class Triggers:
    """The triggers of one exam.

    Parameters
    ----------
    protocol : ExamProtocol
    exam : str
        Pseudonym.
    standing : Standing
        Which triggers only note, or are quiet: `agent.trigger_site.Site.standing`. All of them ask
        with ``Standing()``.
    now_s : float
    """

    def __init__(
        self, protocol: ExamProtocol, exam: str, standing: Standing, now_s: float = 0.0
    ) -> None:
        nothing = {
            trigger.name: TriggerState(
                since_s=now_s,
                when=Evaluation(None, {}, frozenset()).explain(trigger.when),
            )
            for trigger in protocol.triggers
        }
        self.state = ExamState(
            exam=exam,
            protocol=protocol.name,
            revision=protocol.revision,
            digest=protocol.digest,
            standing=standing,
            now_s=now_s,
            triggers=nothing,
        )
        self._adopt(protocol)

    @classmethod
    def resume(cls, protocol: ExamProtocol, state: ExamState) -> "Triggers":
        """Go on where a saved state ends.

        Raises
        ------
        ValueError
            The protocol is not the one which the exam was begun with.
        """
        if state.digest != protocol.digest:
            raise ValueError(
                f"exam {state.exam}: expected protocol {state.protocol}, revision "
                f"{state.revision} ({state.digest[:12]}), got {protocol.name}, revision "
                f"{protocol.revision} ({protocol.digest[:12]}); finish the exam with the protocol "
                "it was begun with"
            )
        machine = cls.__new__(cls)
        machine.state = state.model_copy(deep=True)
        machine._adopt(protocol)
        return machine

    def _adopt(self, protocol: ExamProtocol) -> None:
        self.protocol = protocol
        self._steps = {step.name: step for step in protocol.on_demand}
        self._in_order = sorted(protocol.triggers, key=lambda trigger: trigger.priority)
        self._moved: list[Transition] = []

    @property
    def question(self) -> Proposal | None:
        """The proposal that waits for an answer; after its `expires_s` call `tick`."""
        for each in self.state.triggers.values():
            if each.state is State.PROPOSED:
                return each.proposal
        return None

    def update(self, findings: ExamFindings, context: ExamContext, now_s: float) -> Decision:
        """Take in what triage says after a series.

        Parameters
        ----------
        findings : ExamFindings
        context : ExamContext
        now_s : float

        Returns
        -------
        Decision
            With a proposal where the technologist is to be asked.
        """
        if refused := self._begin(now_s):
            return self._decision(refused=refused)
        if findings.exam != self.state.exam:
            return self._decision(
                refused=f"expected findings of exam {self.state.exam}, got those of {findings.exam}"
            )
        if findings.series != self.state.series:
            self.state.series = findings.series
            for each in self.state.triggers.values():
                each.unprescribed = None
        asked: Proposal | None = None
        noted: list[Proposal] = []
        for trigger in self._in_order:
            each = self.state.triggers[trigger.name]
            if each.state not in WATCHING:
                continue
            self._watch(trigger, each, findings)
            proposal = self._ask(trigger, each, findings, context)
            if proposal and each.state is State.SHADOWED:
                noted.append(proposal)
            else:
                asked = proposal or asked
        return self._decision(proposal=asked, would_ask=tuple(noted))

    def answer(
        self, proposal_id: str, accepted: bool, now_s: float, reason: DeclineReason | None = None
    ) -> Decision:
        """Take in the technologist's answer; one that is late or comes again changes nothing."""
        if refused := self._begin(now_s):
            return self._decision(refused=refused)
        name, each = self._proposed(proposal_id)
        if each is None:
            return self._decision(refused=f"nothing was asked as {proposal_id}")
        if each.state is not State.PROPOSED:
            return self._decision(refused=f"{proposal_id} is {each.state} already")
        if accepted:
            self._move(name, State.ACCEPTED, Reason.ACCEPTED, "accepted")
        else:
            detail = f"declined: {reason}" if reason else "declined"
            self._move(name, State.DECLINED, Reason.DECLINED, detail)
        return self._decision()

    def tick(self, now_s: float) -> Decision:
        """Let time pass: an open question that has run out is declined."""
        refused = self._begin(now_s)
        return self._decision(refused=refused)

    def progress(
        self, proposal_id: str, progress: Progress, now_s: float, detail: str = ""
    ) -> Decision:
        """Take in what the scanner's side says of accepted coverage."""
        if refused := self._begin(now_s):
            return self._decision(refused=refused)
        name, each = self._proposed(proposal_id)
        if each is None:
            return self._decision(refused=f"nothing was asked as {proposal_id}")
        after = State(progress.value)
        if each.state not in (State.ACCEPTED, State.SCANNING) or each.state is after:
            return self._decision(refused=f"{proposal_id} is {each.state}, cannot become {after}")
        self._move(name, after, Reason.SCANNER, detail or f"the scanner says {progress}")
        return self._decision()

    def withdraw(self, proposal_id: str, why: str, now_s: float) -> Decision:
        """Take a proposal back before anybody has seen it: its slices cannot be prescribed.

        It does not count as asked, and may be proposed again after the next series. Another
        trigger may have its turn at once: call `update` again.
        """
        if refused := self._begin(now_s):
            return self._decision(refused=refused)
        name, each = self._proposed(proposal_id)
        if each is None or each.state is not State.PROPOSED:
            return self._decision(refused=f"{proposal_id} is no open question")
        self._move(name, State.BLOCKED, Reason.PRESCRIPTION, why)
        each.proposal, each.unprescribed = None, why or "not said"
        return self._decision()

    def end(self, now_s: float) -> Decision:
        """End the exam: nothing is asked any more."""
        if refused := self._begin(now_s):
            return self._decision(refused=refused)
        for name, each in self.state.triggers.items():
            if each.state is State.PROPOSED:
                self._move(name, State.TIMED_OUT, Reason.EXAM_ENDED, "no answer before the end")
            elif each.state in (State.ACCEPTED, State.SCANNING):
                self._move(name, State.NOT_SCANNED, Reason.EXAM_ENDED, "not scanned by the end")
        self.state.ended = True
        return self._decision()

    def explain(self) -> tuple[Explanation, ...]:
        """Return, by priority, where each trigger stands and the values it stands on."""
        return tuple(
            Explanation(
                trigger=trigger.name,
                state=each.state,
                reason=each.reason,
                detail=each.detail,
                since_s=each.since_s,
                when=each.when,
                needs=tuple(each.needs),
                trust=tuple(each.trust),
                allowed=tuple(each.allowed),
            )
            for trigger in self._in_order
            for each in [self.state.triggers[trigger.name]]
        )

    def _begin(self, now_s: float) -> str | None:
        """Let time pass; return why events change nothing any more, where that is so."""
        self._moved = []
        self.state.now_s = max(self.state.now_s, now_s)
        if self.state.ended:
            return f"exam {self.state.exam} has ended"
        for name, each in self.state.triggers.items():
            if (
                each.state is State.PROPOSED
                and each.proposal
                and self.state.now_s >= each.proposal.expires_s
            ):
                seconds = each.proposal.expires_s - each.proposal.asked_s
                self._move(name, State.TIMED_OUT, Reason.NO_ANSWER, f"no answer in {seconds:g} s")
        return None

    def _decision(
        self,
        proposal: Proposal | None = None,
        would_ask: tuple[Proposal, ...] = (),
        refused: str | None = None,
    ) -> Decision:
        return Decision(
            transitions=tuple(self._moved),
            proposal=proposal,
            would_ask=would_ask,
            refused=refused,
        )

    def _proposed(self, proposal_id: str) -> tuple[str, TriggerState | None]:
        for name, each in self.state.triggers.items():
            # A shadowed proposal was never asked, so it cannot be answered.
            if (
                each.proposal
                and each.proposal.id == proposal_id
                and each.state is not State.SHADOWED
            ):
                return name, each
        return "", None

    def _move(self, name: str, after: State, reason: Reason, detail: str) -> None:
        each = self.state.triggers[name]
        self._moved.append(
            Transition(
                trigger=name,
                before=each.state,
                after=after,
                reason=reason,
                detail=detail,
                at_s=self.state.now_s,
            )
        )
        each.state, each.reason, each.detail = after, reason, detail
        each.since_s = self.state.now_s

    def _watch(self, trigger: Trigger, each: TriggerState, findings: ExamFindings) -> None:
        """Let the evidence move a trigger, up to confirmed."""
        poor = gates.distrusted(trigger.unless, findings)
        evaluation = Evaluation(findings, poor, frozenset(each.met))
        each.when = evaluation.explain(trigger.when)
        each.met = sorted(evaluation.after)
        certainty = each.when.certainty
        trust = gates.trust(trigger, findings, evaluation.set_aside, certainty)
        needed = gates.needs(trigger, findings, poor)
        each.trust = [check for _, check in trust]
        each.needs = [check for _, check in needed]
        shut = gates.failing(trust)
        if shut is None and certainty < Certainty.CANDIDATE:
            shut = gates.failing(needed)
        if shut is not None:
            if (each.state, each.reason, each.detail) != (State.ABSTAINED, *shut):
                self._move(trigger.name, State.ABSTAINED, *shut)
            return
        each.confirmed |= certainty is Certainty.CONFIRMED
        if each.state is State.ABSTAINED:
            self._move(trigger.name, State.IDLE, Reason.JUDGEABLE, "there is enough to judge")
        if each.state is State.BLOCKED:
            if certainty is Certainty.CONFIRMED:
                return
            self._move(trigger.name, LADDER[certainty], WHY[certainty], each.when.value)
        standing = LADDER.index(each.state)
        # Up step by step, so that every threshold passed is on record; down at once.
        steps = range(standing + 1, certainty + 1) or ([certainty] if certainty < standing else [])
        for step in steps:
            self._move(trigger.name, LADDER[step], WHY[step], each.when.value)

    def _ask(
        self, trigger: Trigger, each: TriggerState, findings: ExamFindings, context: ExamContext
    ) -> Proposal | None:
        """Propose what a confirmed trigger wants, or block it."""
        standing = self.state.standing
        only_noted = trigger.name in standing.shadow or trigger.name in standing.breaker
        ledger = proposals.ledger(self.state, shadow=only_noted)
        missing = [
            self._steps[name]
            for name in trigger.scan
            if name not in ledger.steps and name not in context.planned
        ]
        minutes = sum(step.minutes for step in missing)
        checks = gates.allowed(
            trigger,
            self.protocol.budget,
            context,
            ledger,
            minutes,
            {
                Reason.QUIET: standing.quiet.get(trigger.name),
                Reason.PRESCRIPTION: each.unprescribed,
            },
            self.state.now_s,
        )
        each.allowed = [check for _, check in checks]
        if each.state not in (State.CONFIRMED, State.BLOCKED):
            return None
        shut = gates.failing(checks)
        if shut is not None:
            if (each.state, each.reason) != (State.BLOCKED, shut[0]):
                self._move(trigger.name, State.BLOCKED, *shut)
            return None
        if each.state is State.BLOCKED:
            self._move(trigger.name, State.CONFIRMED, Reason.ALLOWED, "asking is allowed now")
        each.attempts += 1
        proposal = each.proposal = proposals.proposal(
            self.protocol, trigger, self.state, findings, missing
        )
        if why := standing.breaker.get(trigger.name):
            self._move(trigger.name, State.SHADOWED, Reason.CIRCUIT_BREAKER, why)
        elif why := standing.shadow.get(trigger.name):
            self._move(trigger.name, State.SHADOWED, Reason.SHADOW, why)
        else:
            self._move(trigger.name, State.PROPOSED, Reason.ASKED, proposal.text)
        return proposal
