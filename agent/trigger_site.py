"""What a site's past exams allow its triggers: shadow mode, circuit breaker, quiet mode.

A new trigger, or one whose conditions were changed, only notes what it would have asked, for its
first exams. These also give the rate at which its condition holds at this site; when the rate
later leaves that range, it only notes again, until a person has looked. After repeated declines it
is quiet for the session.
"""

import hashlib
from math import comb
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.trigger_states import ExamState, Standing, State, TriggerState
from protocols.exam import ExamProtocol
from protocols.findings import Fraction
from protocols.trigger import Trigger


class SitePolicy(BaseModel):
    """How a site lets triggers ask.

    Attributes
    ----------
    mode : str
        "commissioning": a trigger only notes for its first `shadow_exams` exams, then it asks.
        "shadow": it only ever notes. "active": it asks from the first exam on.
    shadow_exams : int
        Also those over which its rate is measured, where the protocol does not say it.
    window : int
        Latest exams over which the rate is watched.
    low, high : float
        Of the rate at commissioning: outside, the circuit breaker opens.
    chance : float
        Only, however, where chance alone would give such a count less often than this: one exam
        in 50 with a trigger is no news where two or three are expected.
    declines : int
        Within `declines_within_s`, unanswered questions included: then it is quiet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: Literal["commissioning", "shadow", "active"] = "commissioning"
    shadow_exams: int = Field(default=200, ge=1)
    window: int = Field(default=50, ge=1)
    low: float = Field(default=0.5, ge=0, le=1)
    high: float = Field(default=2.0, ge=1)
    chance: Fraction = 0.001
    declines: int = Field(default=2, ge=1)
    declines_within_s: float = Field(default=3600, gt=0)


class TriggerHistory(BaseModel):
    """One trigger of one protocol at a site.

    Attributes
    ----------
    looks_for : str
        Digest of the trigger's conditions: one that looks for something else starts anew.
    exams, commissioned : int
        All exams, and those among the first `shadow_exams` in which its condition held.
    recent : list of bool
        Whether it held, of the latest exams.
    declines_s : list of float
        Times of the latest ones.
    quiet, breaker : str or None
        Why it does not ask.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    looks_for: str
    exams: int = 0
    commissioned: int = 0
    recent: list[bool] = []
    declines_s: list[float] = []
    quiet: str | None = None
    breaker: str | None = None


class SiteState(BaseModel):
    """All that a site remembers: saved after each exam. Keys are "protocol/trigger"."""

    model_config = ConfigDict(extra="forbid")

    version: Literal["1"] = "1"
    triggers: dict[str, TriggerHistory] = {}


class Site:
    """The memory between exams.

    Parameters
    ----------
    policy : SitePolicy, optional
        By default that of a new site: triggers only note.
    state : SiteState, optional
        A saved one, to go on with.
    """

    def __init__(self, policy: SitePolicy | None = None, state: SiteState | None = None) -> None:
        self.policy = policy or SitePolicy()
        self.state = state or SiteState()

    def standing(self, protocol: ExamProtocol) -> Standing:
        """Return what the triggers of a protocol may do in the next exam."""
        shadow, breaker, quiet = {}, {}, {}
        for trigger in protocol.triggers:
            history = self._history(protocol, trigger)
            if why := self._shadow(history):
                shadow[trigger.name] = why
            if history.breaker:
                breaker[trigger.name] = history.breaker
            if history.quiet:
                quiet[trigger.name] = history.quiet
        return Standing(shadow=shadow, breaker=breaker, quiet=quiet)

    def record(self, protocol: ExamProtocol, exam: ExamState) -> None:
        """Remember an exam that has ended.

        Raises
        ------
        ValueError
            It has not ended, or was another protocol's.
        """
        if not exam.ended or exam.protocol != protocol.name:
            raise ValueError(
                f"expected an exam of {protocol.name} that has ended, got {exam.exam} of "
                f"{exam.protocol}, {'ended' if exam.ended else 'still going on'}"
            )
        for trigger in protocol.triggers:
            if each := exam.triggers.get(trigger.name):
                history = self._history(protocol, trigger)
                self._count(history, each)
                expected = trigger.expected_per_100_exams
                history.breaker = history.breaker or self._breaker(history, expected)
                self._declines(history, each)

    def new_session(self) -> None:
        """Forget declines and leave quiet mode: another technologist, another day."""
        for history in self.state.triggers.values():
            history.quiet = None
            history.declines_s = []

    def reset(self, protocol: str, trigger: str) -> None:
        """Close a circuit breaker, after a person has looked why it opened.

        Raises
        ------
        KeyError
            The site knows no such trigger.
        """
        history = self.state.triggers[f"{protocol}/{trigger}"]
        history.breaker = None
        history.recent = []

    def rate(self, history: TriggerHistory, expected_per_100: float | None) -> float | None:
        """Return the rate at commissioning, or None while it is being measured."""
        if expected_per_100 is not None:
            return expected_per_100 / 100
        if history.exams < self.policy.shadow_exams:
            return None
        # Half an exam more of each kind: no exams out of 200 do not prove a rate of nought.
        return (history.commissioned + 0.5) / (self.policy.shadow_exams + 1)

    def _history(self, protocol: ExamProtocol, trigger: Trigger) -> TriggerHistory:
        conditions = trigger.model_dump_json(include={"when", "needs", "unless"})
        looks_for = hashlib.sha256(conditions.encode()).hexdigest()
        key = f"{protocol.name}/{trigger.name}"
        history = self.state.triggers.get(key)
        if history is None or history.looks_for != looks_for:
            history = self.state.triggers[key] = TriggerHistory(looks_for=looks_for)
        return history

    def _shadow(self, history: TriggerHistory) -> str | None:
        if self.policy.mode == "shadow":
            return "shadow mode"
        if self.policy.mode == "commissioning" and history.exams < self.policy.shadow_exams:
            return f"shadow mode: exam {history.exams + 1} of {self.policy.shadow_exams}"
        return None

    def _count(self, history: TriggerHistory, each: TriggerState) -> None:
        if history.exams < self.policy.shadow_exams:
            history.commissioned += each.confirmed
        history.exams += 1
        history.recent = [*history.recent, each.confirmed][-self.policy.window :]

    def _breaker(self, history: TriggerHistory, expected_per_100: float | None) -> str | None:
        expected = self.rate(history, expected_per_100)
        exams, held = len(history.recent), sum(history.recent)
        if expected is None or exams < self.policy.window:
            return None
        bounds = expected * self.policy.low, expected * self.policy.high
        if held / exams > bounds[1]:
            chance = _at_least(held, exams, expected)
        elif held / exams < bounds[0]:
            chance = 1 - _at_least(held + 1, exams, expected)
        else:
            return None
        if chance >= self.policy.chance:
            return None
        return (
            f"circuit breaker: held in {held} of the latest {exams} exams, "
            f"expected {100 * expected:.1f} of 100"
        )

    def _declines(self, history: TriggerHistory, each: TriggerState) -> None:
        if each.state not in (State.DECLINED, State.TIMED_OUT):
            return
        since = each.since_s - self.policy.declines_within_s
        history.declines_s = [at for at in [*history.declines_s, each.since_s] if at >= since]
        if len(history.declines_s) >= self.policy.declines:
            minutes = self.policy.declines_within_s / 60
            count = len(history.declines_s)
            history.quiet = f"quiet mode: {count} declines within {minutes:g} min"


def _at_least(successes: int, trials: int, probability: float) -> float:
    """Return the binomial probability of that many successes or more."""
    return sum(
        comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(successes, trials + 1)
    )
