"""The virtual scanner's console: a scripted technologist, and what was accepted is really scanned.

    with VirtualConsole(address, steps, protocol, answer, acquire) as console:
        for step in steps:                 # what was ordered, always first
            acquire(step)
            console.acquired(step)         # the agent is told what room is left
        console.finish()                   # what was accepted, then the end of the exam

The clock of the exam is that of the simulated steps, however fast they are streamed. All data are
simulated.
"""

import threading
import uuid
from collections.abc import Callable, Sequence

from protocols.control import (
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    ExamUpdate,
    Outcome,
    ReplyReason,
    Telemetry,
)
from protocols.exam import ExamProtocol
from protocols.trigger import OrderFlag
from scanner.console_adapter import AgentAddress, Answer, ConsoleAdapter, NotScanned
from scanner.coverage import UnsupportedStep, coverage_step
from scanner.step import Step

DECISION_S = 120.0

SCAN_S = 1800.0
"""How long all extra scans may take."""


class VirtualConsole(ConsoleAdapter):
    """Connect to an agent for one exam.

    Parameters
    ----------
    address : AgentAddress
    steps : sequence of Step
        Which were ordered.
    protocol : ExamProtocol
        Has the steps on demand.
    answer : callable
        The technologist: from a request to an answer, None where there is none.
    acquire : callable
        Streams a step to the agent, and returns when its images are back.
    sar_headroom : float or None
    order : tuple of OrderFlag

    Attributes
    ----------
    requests : list of CoverageRequest
        Questions that were asked.
    extra : list of Step
        Steps that were scanned on demand.
    telemetry : list of Telemetry
        All that the agent has told.
    """

    def __init__(
        self,
        address: AgentAddress,
        steps: Sequence[Step],
        protocol: ExamProtocol,
        answer: Callable[[CoverageRequest], Answer | None],
        acquire: Callable[[Step], object],
        sar_headroom: float | None = 0.7,
        order: tuple[OrderFlag, ...] = (),
    ) -> None:
        self.requests: list[CoverageRequest] = []
        self.extra: list[Step] = []
        self.telemetry: list[Telemetry] = []
        self._steps = list(steps)
        self._protocol = protocol
        self._answer = answer
        self._acquire = acquire
        self._sar_headroom = sar_headroom
        self._order = order
        self._done: list[Step] = []
        self._busy = 0
        self._told = threading.Condition()
        self._ordered_over = threading.Event()
        super().__init__(address, "virtual scanner")
        self._update()

    def acquired(self, step: Step) -> None:
        """Take note that a step has been scanned."""
        self._done.append(step)
        self._update()

    def finish(self, decision_s: float = DECISION_S) -> None:
        """Scan what was accepted, once the agent has looked at all there is; end the exam.

        Parameters
        ----------
        decision_s : float
            How long is waited for what the agent makes of the last step, each time.
        """
        self._ordered_over.set()
        with self._told:
            self._told.wait_for(self._settled, decision_s)
            self._told.wait_for(lambda: not self._busy, SCAN_S)
            # Of what was scanned on demand, too: else its findings come during the next exam.
            self._told.wait_for(self._settled, decision_s)
        self._update(ended=True)

    def ask(self, request: CoverageRequest) -> Answer | None:
        with self._told:
            self.requests.append(request)
            self._busy += 1
        answer = self._answer(request)
        if answer is None or answer.reason is not None:
            self._free()
        return answer

    def schedule(self, request: CoverageRequest, steps: Sequence[CoverageStep]) -> None:
        """Nothing is to be prepared: `scan` waits until all that was ordered is over."""

    def scan(self, request: CoverageRequest, steps: Sequence[CoverageStep]) -> None:
        try:
            self._ordered_over.wait()
            for asked in steps:
                ordered = self._protocol.step(asked.step)
                try:
                    step = coverage_step([*self._steps, *self.extra], ordered, asked.slab)
                except UnsupportedStep as error:
                    raise NotScanned(ReplyReason.SCANNER, str(error)) from None
                self.extra.append(step)
                self._acquire(step)
                self._done.append(step)
                self._update()
        finally:
            self._free()

    def moot(self, request: CoverageRequest, why: str) -> None:
        self._free()

    def answered(self, request: CoverageRequest, reply: CoverageReply) -> None:
        if reply.outcome is not Outcome.DECLINED:  # `scan` will be called for it, too.
            with self._told:
                self._busy += 1

    def withdrawn(self, request: CoverageRequest, why: str) -> None:
        self._free()

    def hear(self, telemetry: Telemetry) -> None:
        with self._told:
            self.telemetry.append(telemetry)
            self._told.notify_all()

    def _free(self) -> None:
        with self._told:
            self._busy = max(0, self._busy - 1)
            self._told.notify_all()

    def _settled(self) -> bool:
        """Whether the agent has decided about the last step, and nothing is being scanned."""
        decided = {each.values.get("series") for each in self.telemetry if each.topic == "decided"}
        return not self._busy and self._done[-1].name in decided

    def _update(self, ended: bool = False) -> None:
        spent_s = sum(step.duration_s for step in self._done)
        done = {step.identity.measurement_uid for step in self._done}
        left = [step for step in self._steps if step.identity.measurement_uid not in done]
        names = [step.name for step in (*self._steps, *self.extra)]
        self.tell(
            ExamUpdate(
                id=uuid.uuid4().hex,
                exam=self._steps[0].identity.uid("study"),
                protocol=self._protocol.name,
                slot_minutes=self._protocol.slot_minutes - spent_s / 60,
                remaining_minutes=sum(step.duration_s for step in left) / 60,
                minutes_used=sum(step.duration_s for step in self.extra) / 60,
                sar_headroom=self._sar_headroom,
                planned=tuple(dict.fromkeys(names)),
                order=self._order,
                ended=ended,
            )
        )
