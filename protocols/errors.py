"""The named errors of the wire: what was expected, what came, and at which byte."""


class WireError(ValueError):
    """A stream broke the MRD protocol.

    Attributes
    ----------
    expected, got : str
    offset : int
        Byte of the stream at which the offending message (or field) starts.
    """

    def __init__(self, expected: str, got: str, offset: int) -> None:
        super().__init__(f"expected {expected}, got {got}, at byte {offset}")
        self.expected = expected
        self.got = got
        self.offset = offset


class TruncatedStream(WireError):
    """The peer went away in the middle of a message."""


class UnknownMessage(WireError):
    """A message identifier which nobody can skip, because its length is not known."""


class LimitExceeded(WireError):
    """A length field asks for more than this side is willing to allocate."""


class MalformedMessage(WireError):
    """A message whose fields contradict each other."""


class HeaderError(ValueError):
    """The MRD header is not one: what was expected, what came."""


class FileFormatError(ValueError):
    """A file is no MRD measurement, or not the part of one that was asked for."""
