"""One measurement, messages in and images out: choose the chain, run it, and fall back.

`agent.session` runs it on a connection, `agent.recover` on a file of the spool: the same code sees
the same bytes. It knows no sockets and no threads.

The failure boundary is here. Where a chain fails, the measurement is read again from its beginning
with the plainest reconstruction (`agent.fire.simplefft`), and what has not been delivered yet is
delivered from that; images which were sent to us come back unchanged.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain as concatenate
from typing import TYPE_CHECKING, Any

import numpy as np

from agent import chains, fire
from gadgets.items import Series
from protocols.control_inband import to_meta
from protocols.errors import HeaderError, TruncatedStream, WireError
from protocols.header import Header, parse_header
from protocols.meta import meta_text, parse_meta
from protocols.mrd import Message, Reader
from protocols.mrd_types import (
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderText,
    ImageMessage,
    Query,
    ReadoutBlock,
    Response,
    Text,
)

if TYPE_CHECKING:
    from agent.exam_beside import Beside
    from agent.outgoing import Outgoing

_CONTROL = (ConfigFile, ConfigText, HeaderText, Text, Query, Response, ErrorText, Close)
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
FrameCounters = tuple[int, ...]


class PeerGone(Exception):
    """Who should have taken the images is not there any more."""


@dataclass
class Report:
    """What became of a measurement; fit for logs: it holds nothing of the patient.

    Attributes
    ----------
    config : str
        Name of the chain that ran.
    items, readouts, images_in : int
        What came: messages with data (a block counts as one), readouts, images.
    images : list of tuple
        Series, index, slice, contrast, phase, repetition and set of every image that left.
    fallbacks : int
        Images that left by a plainer way than was asked for.
    latency_ms : list of float
        From the arrival of an image's last readout to the image's departure.
    closed : bool
        The peer said that it had sent everything.
    cut : bool
        The stream just ended: the peer may have vanished.
    failed : bool
        Not even the fallback could reconstruct everything.
    errors : list of str
    """

    config: str = ""
    items: int = 0
    readouts: int = 0
    images_in: int = 0
    images: list[tuple[int, ...]] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    closed: bool = False
    cut: bool = False
    failed: bool = False
    errors: list[str] = field(default_factory=list)
    fallbacks: int = 0

    @property
    def empty(self) -> bool:
        """No data came at all."""
        return not self.items


class Measurement:
    """Run one measurement.

    Parameters
    ----------
    read : callable
        Returns a new `Reader` at the measurement's first byte.
    send : callable
        Takes every message that leaves: images, texts, answers. Raises `PeerGone`.
    default : str
        Chain for scanners that name none we know.
    pixel_type : str
    arrival : callable or None
        Maps stream offsets to arrival times (`agent.spool.Recording.arrival`); None for a file of
        the past, whose images have no latency.
    durable_bytes : callable or None
        How many bytes are safe, to answer ``boreside::spooled``.
    logger : structlog logger
    beside : Beside or None
        Takes the series when their images have left, and talks in-band about coverage.
    outgoing : Outgoing or None
        Takes what has left on to PACS and page.
    instead : str or None
        Chain to run whatever the scanner names, because that has ended the process.
    """

    def __init__(
        self,
        read: Callable[[], Reader],
        send: Callable[[Message], None],
        default: str,
        pixel_type: str,
        logger: Any,
        arrival: Callable[[Any], Any] | None = None,
        durable_bytes: Callable[[], int] | None = None,
        beside: "Beside | None" = None,
        outgoing: "Outgoing | None" = None,
        instead: str | None = None,
    ) -> None:
        self.report = Report()
        self._read = read
        self._send = send
        self._default = default
        self._pixel_type = pixel_type
        self._log = logger
        self._arrival = arrival
        self._durable_bytes = durable_bytes
        self._beside = beside
        self._outgoing = outgoing
        self._instead = instead
        self._header: Header | None = None
        self._config: str | None = None
        self._choice_made = False
        self._wire_error: WireError | None = None
        self._seen = 0
        self._arrivals: dict[FrameCounters, int] = {}
        self._delivered: set[FrameCounters] = set()

    def run(self) -> Report:
        """Reconstruct and send everything, except the CLOSE.

        Raises
        ------
        PeerGone
            The rest of the images found nobody to take them.
        """
        items = self._items(self._read())
        try:
            first = next(items, None)
            if first is not None:
                self.report.config = self._choose()
                collect = self._beside is not None and self._header is not None
                name = self.report.config
                if self._outgoing is not None:
                    self._outgoing.begin(self._header, name)
                gadget = chains.build(name, self._header, self._pixel_type, collect)
                for item in gadget(concatenate([first], items)):
                    if isinstance(item, ImageMessage):
                        self._deliver(item)
                    elif isinstance(item, Series) and self._beside is not None:
                        if self._outgoing is not None:
                            self._outgoing.series(item.name)
                        self._beside.take(self._header, item)
        except PeerGone:
            raise
        except Exception as error:
            self._fail(f"{self.report.config or 'reading'} failed: {error}", error)
            self._fall_back()
        finally:
            items.close()
        self._send_pages()
        broken = self._wire_error
        self.report.cut = not self.report.closed and isinstance(broken, TruncatedStream | None)
        if broken is not None:
            self._fail(f"the stream broke the MRD protocol: {broken}")
        return self.report

    def _fall_back(self) -> None:
        self._say("WRN", "falling back to a zero-filled reconstruction of what is missing")

        def readouts(items: Iterator[Any]) -> Iterator[Any]:
            for item in items:
                if not isinstance(item, ImageMessage):
                    yield item
                elif _identity(item) not in self._delivered:
                    self._deliver(item, unchanged=True)

        try:
            for item in fire.simplefft(self._header)(readouts(self._items(self._read()))):
                if isinstance(item, ImageMessage) and _counters(item) not in self._delivered:
                    self._deliver(item)
                    self.report.fallbacks += 1
        except PeerGone:
            raise
        except Exception as error:
            self.report.failed = True
            self._fail(f"the fallback failed too: {error}", error)

    def _items(self, reader: Reader) -> Generator[Any, None, None]:
        """Yield what carries data; attend to the rest, and to each message only once."""
        report = self.report
        report.items = report.readouts = report.images_in = 0
        try:
            for message in reader:
                if reader.offset > self._seen:
                    self._seen = reader.offset
                    self._attend(message, reader.offset)
                if isinstance(message, _CONTROL):
                    continue
                report.readouts += len(message) if isinstance(message, ReadoutBlock) else 0
                report.images_in += isinstance(message, ImageMessage)
                report.items += 1
                if self._outgoing is not None:
                    self._outgoing.came(report.readouts, self._seen)
                yield message
        except WireError as error:
            self._wire_error = error

    def _attend(self, message: Message, offset: int) -> None:
        match message:
            case ConfigFile(name):
                self._config = name.strip()
            case ConfigText(text):
                self._config = text.strip()
                self._take_parameters(text)
            case HeaderText(xml):
                self._take_header(xml)
                self._talk()
            case Text(text):
                if self._beside is None or not self._talk(message):
                    self._take_parameters(text)
            case Query(correlation_id, text):
                self._send(Response(correlation_id, self._answer(text, offset)))
            case ErrorText():
                self._log.warning("peer reports an error")
            case Close():
                self.report.closed = True
            case ReadoutBlock():
                self._note_arrivals(message)
            case ImageMessage() if self._arrival:
                arrived = self._arrival(np.array([offset]))[0]
                self._arrivals[_counters(message)] = int(arrived)

    def _take_header(self, xml: str) -> None:
        if self._config is None:
            # No configuration before the header: a stream on a pipe (Gadgetron's --from_stream),
            # whose reader expects the header in front of the images.
            self._send(HeaderText(xml))
        try:
            self._header = parse_header(xml)
        except HeaderError:
            self._log.warning("header is not MRD XML: going on without it")

    def _take_parameters(self, text: str) -> None:
        """Take a configuration from FIRE's JSON parameters, whose values may all be strings."""
        if self._choice_made:
            return
        try:
            parameters = json.loads(text)["parameters"]
            names = [str(parameters.get(key, "")) for key in ("config", "customconfig")]
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        for name in names:
            self._config = name.strip() or self._config

    def _choose(self) -> str:
        self._choice_made = True
        if self._instead is not None and self._config not in chains.SILENT:
            self._say("WRN", f"an attempt before this ended the agent: using {self._instead}")
            return self._instead
        if not self._config or self._config in chains.CHAINS:
            return self._config or self._default
        self._say("WRN", f"no configuration of that name here: using {self._default}")
        return self._default

    def _answer(self, text: str, offset: int) -> str:
        match text.strip():
            case "boreside::spooled" if self._durable_bytes:
                return str(min(offset, self._durable_bytes()))
            case "boreside::alive":
                return "alive"
            case "boreside::info":
                return json.dumps(
                    {
                        "name": "boreside",
                        "version": version("boreside"),
                        "configurations": sorted(chains.CHAINS),
                        "default": self._default,
                    }
                )
        return "unknown query: expected boreside::spooled, boreside::alive or boreside::info"

    def _note_arrivals(self, block: ReadoutBlock) -> None:
        if self._arrival is None:
            return
        counters = np.stack([block.headers["idx"][name] for name in _COUNTERS], axis=1)
        if (counters == counters[-1]).all():
            frames, arrived = counters[-1:], block.arrival_ns[-1:]
        else:
            frames, last = np.unique(counters[::-1], axis=0, return_index=True)
            arrived = block.arrival_ns[::-1][last]
        self._arrivals.update(zip(map(tuple, frames.tolist()), arrived.tolist()))

    def _talk(self, heard: Text | None = None) -> bool:
        """Speak of coverage in-band; False where what was heard is about something else."""
        if self._beside is None:
            return False
        answers = None if heard is None else self._beside.hear(heard)
        for text in (*(answers or ()), *self._beside.texts()):
            self._send(text)
        return answers is not None

    def _deliver(self, image: ImageMessage, unchanged: bool = False) -> None:
        latency = None
        arrived = self._arrivals.get(_counters(image))
        if arrived is not None:
            latency = round((time.monotonic_ns() - arrived) / 1e6, 3)
            self.report.latency_ms.append(latency)
            if not unchanged:
                image = _with(image, BoresideLatencyMs=latency)
        if self._beside is not None and not unchanged:
            self._talk()
            if question := self._beside.for_image():
                image = _with(image, **to_meta(question))
        self._send(image)
        self.report.images.append(_identity(image))
        self.report.fallbacks += "BoresideFallback" in image.attributes
        self._delivered |= {_identity(image), _counters(image)}
        if self._outgoing is not None:
            self._outgoing.image(image, latency)

    def _send_pages(self) -> None:
        """Send the exam's summary after all images, as a series of its own."""
        if self._beside is None or self._header is None or not self.report.images:
            return
        series = 1 + max(image[0] for image in self.report.images)
        for page in self._beside.pages(self._header):
            header = page.header.copy()
            header["image_series_index"] = series
            try:
                self._send(replace(page, header=header))
            except PeerGone:
                return  # All that was acquired has left, and PACS and page have the summary, too.

    def _say(self, level: str, text: str) -> None:
        """Tell the scanner, which colours a line by its first three letters: DBG, WRN or ERR."""
        self._log.warning(text)
        if self._outgoing is not None:
            self._outgoing.say("warning", text)
        self._send(Text(f"{level} {text}"))

    def _fail(self, text: str, error: Exception | None = None) -> None:
        self.report.errors.append(text)
        self._log.error(text, exc_info=error)
        if self._outgoing is not None:
            self._outgoing.say("error", text)
        self._send(Text(f"ERR {text}"))


def _counters(image: ImageMessage) -> FrameCounters:
    return tuple(int(image.header[name]) for name in _COUNTERS)


def _identity(image: ImageMessage) -> tuple[int, ...]:
    names = ("image_series_index", "image_index", *_COUNTERS)
    return tuple(int(image.header[name]) for name in names)


def _with(image: ImageMessage, **more: Any) -> ImageMessage:
    """Add to an image's attributes, where these can be read."""
    attributes = parse_meta(image.attributes)
    if image.attributes.strip() and not attributes:
        return image
    return replace(image, attributes=meta_text({**attributes, **more}))
