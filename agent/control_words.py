"""What a console is told of a reply that does not count."""

from agent.control_store import Verdict

WHY_NOT = {
    Verdict.LATE: "the countdown was over: it counts as declined",
    Verdict.SECOND: "the question was answered before",
    Verdict.WITHDRAWN: "the question was taken back",
    Verdict.OUT_OF_ORDER: "nothing of the kind was accepted and is still to be scanned",
    Verdict.UNKNOWN: "no such question was asked",
}
