"""The named errors of engines: which one, and why it cannot serve."""


class EngineUnavailable(RuntimeError):
    """An engine cannot serve.

    Attributes
    ----------
    engine : str
        Name and version, as far as they are known.
    reason : str
        What was expected, what came, and what to do.
    """

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine = engine
        self.reason = reason


class NotReproduced(EngineUnavailable):
    """A runtime does not reproduce the golden vector of the network which it runs."""


class WeightsRefused(EngineUnavailable):
    """Weights are not what their manifest, or their signature, says."""
