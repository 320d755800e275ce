"""The page as a second place to answer: a channel of questions which it shows, and clicks upon it.

    channel = Shown(channel, page)
    Coverage(..., channel=channel)
    channel.click(command)

Questions and answers are those of the channel within, and its rules hold: the first answer counts,
silence is a decline. The page's card closes by what is said here, whoever has answered.
"""

import time
from collections.abc import Iterator

from agent import log
from agent.control import ControlChannel
from agent.control_inband import InBand
from agent.control_store import CLICK, Reply, Verdict
from agent.event_records import Answered, Asked, Command
from agent.page import Page
from protocols.control import (
    CoverageReply,
    CoverageRequest,
    Outcome,
    ReplyReason,
    Telemetry,
    Withdraw,
)


class Shown:
    """A `agent.coverage_channel.Channel` around another one.

    Parameters
    ----------
    channel : ControlChannel or InBand
    page : Page
    """

    def __init__(self, channel: ControlChannel | InBand, page: Page) -> None:
        self._channel = channel
        self._page = page
        self._log = log.get(part="page")

    @property
    def consoles(self) -> tuple[str, ...]:
        """Names of the scanner's consoles that are there."""
        if isinstance(self._channel, InBand):
            return ()
        return tuple(hello.name for hello in self._channel.consoles)

    def click(self, command: Command) -> None:
        """Take an answer of the page."""
        declined = command.kind == "decline"
        reply = CoverageReply(
            id=f"{CLICK}{command.number}-{round(1000 * command.at_s)}",
            request=command.request,
            outcome=Outcome.DECLINED if declined else Outcome.ACCEPTED,
            reason=(command.reason or ReplyReason.OTHER) if declined else None,
            detail=command.user,
        )
        verdict = self._channel.answer(reply)
        self._log.info("click", request=command.request, verdict=str(verdict))
        if verdict in (Verdict.UNKNOWN, Verdict.WITHDRAWN):
            self._say(command.request, Answered(request=command.request, outcome="withdrawn"))

    def request(self, request: CoverageRequest) -> bool:
        new = self._channel.request(request)
        if new:
            self._page.events.say(request.exam, Asked(request=request, asked_s=time.time()))
        return new

    def withdraw(self, withdraw: Withdraw) -> bool:
        withdrawn = self._channel.withdraw(withdraw)
        if withdrawn:
            event = Answered(request=withdraw.request, outcome="withdrawn", detail=withdraw.detail)
            self._say(withdraw.request, event)
        return withdrawn

    def state(self, request: str) -> str | None:
        return self._channel.state(request)

    def recorded(self, request: str) -> list[Reply]:
        return self._channel.recorded(request)

    def sent_ns(self, request: str, wait_s: float) -> int | None:
        return self._channel.sent_ns(request, wait_s)

    def replies(self, wait_s: float) -> Iterator[Reply]:
        for reply in self._channel.replies(wait_s):
            message = reply.message
            clicked = message.id.startswith(CLICK)
            silent = message.reason is ReplyReason.NO_ANSWER
            event = Answered(
                request=message.request,
                outcome="no_answer" if silent else message.outcome,
                reason=message.reason,
                by=message.detail if clicked else "",
                detail="" if clicked else message.detail,
            )
            self._say(message.request, event)
            yield reply

    def publish(self, telemetry: Telemetry) -> None:
        self._channel.publish(telemetry)

    def _say(self, request: str, event: Answered) -> None:
        self._page.events.say(request.partition("/")[0], event)
