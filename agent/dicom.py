"""The way out as DICOM: what left the agent becomes objects for the hospital.

One `DicomExam` for an exam, one `DicomSink` of it for each measurement. A sink takes the very
messages that left for the scanner, and works in a thread of its own: delivery never waits for it,
and what fails here is logged and counted, and fails nothing else.

    exams = DicomExams(settings.dicom, outbox.add, lookup)
    exam = exams.of(header, measurement)
    sink = exam.sink(measurement, header)
    sink.add(image_message)      # as each image leaves
    sink.close()                 # after the last one: all objects are in the outbox (sink.owing)
    exam.labels("t2_tse_sag", label_map, networks)
    exam.findings(exam_findings)
"""

import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from agent import log
from agent.dicom_base import Context, series_description
from agent.dicom_burn import RESEARCH, SYNTHETIC, burn
from agent.dicom_capture import secondary_captures
from agent.dicom_enhanced_mr import enhanced_mr_images
from agent.dicom_identity import Identity, from_header
from agent.dicom_mr import mr_images
from agent.dicom_picture import Picture, read_picture
from agent.dicom_report import report
from agent.dicom_segmentation import segmentation
from agent.dicom_settings import DicomSettings
from agent.dicom_uid import uid
from gadgets.finish import PAGES
from gadgets.items import LabelMap, Role
from protocols.findings import ExamFindings
from protocols.header import Header
from protocols.mrd_types import ImageMessage

Put = Callable[[Dataset], None]
Lookup = Callable[[Identity], Identity]
SeriesKey = tuple[int, str, str, str]
MOST_EXAMS = 8
WAITING_BYTES = 512 << 20
"""Of images of one measurement that are no objects yet."""
LOOK_S = 0.01


class DicomExams:
    """The exams that are being scanned: measurements of one study share a `DicomExam`.

    Parameters
    ----------
    settings, put, lookup
        As of `DicomExam`.
    """

    def __init__(self, settings: DicomSettings, put: Put, lookup: Lookup | None = None) -> None:
        self._make = partial(DicomExam, settings, put, lookup)
        self._lock = threading.Lock()
        self._exams: dict[str, DicomExam] = {}

    def of(self, header: Header | None, measurement: str) -> "DicomExam":
        """Return the exam which a measurement belongs to; all but the latest are forgotten."""
        study = from_header(header, measurement).study_uid
        with self._lock:
            exam = self._exams.pop(study, None) or self._make()
            self._exams[study] = exam
            while len(self._exams) > MOST_EXAMS:
                del self._exams[next(iter(self._exams))]
            return exam


class DicomExam:
    """All objects of one exam.

    Parameters
    ----------
    settings : DicomSettings
    put : callable
        Takes each finished object: `agent.outbox.Outbox.add`.
    lookup : callable, optional
        Completes an identity: `agent.worklist.Worklist.complete`. Called from the sinks' threads.
    """

    def __init__(self, settings: DicomSettings, put: Put, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._put = put
        self._lookup = lookup
        self._contexts: dict[str, Context] = {}
        self._images: dict[str, list[Dataset]] = {}

    def sink(
        self,
        measurement: str,
        header: Header | None,
        ended: "Callable[[DicomSink], None]" = lambda sink: None,
    ) -> "DicomSink":
        """Begin a measurement.

        Parameters
        ----------
        measurement : str
            The spool's name of it. It is in every UID: recovering the same measurement makes the
            same objects, sending the same scan again makes others.
        header : Header or None
        ended : callable
            Is told, on the sink's thread, that no more objects will come of it.
        """
        return DicomSink(self, measurement, header, ended)

    def labels(self, series: str, labels: LabelMap, networks: Sequence[str] = ()) -> bool:
        """Write a label map; False where its series is not known or nothing is labelled."""
        context, images = self._of(series)
        if context is None or not labels.labels.any():
            return False
        self._put(segmentation(context, series, labels, images, networks))
        return True

    def findings(self, findings: ExamFindings, networks: Sequence[str] = ()) -> bool:
        """Write the report of the findings so far; False where none of their series is known."""
        images = {name: self._of(name)[1] for name in findings.series}
        context = next((c for name in findings.series if (c := self._of(name)[0])), None)
        if context is None:
            return False
        self._put(report(context, findings, images, networks))
        return True

    def summary(self, pages: NDArray[np.uint8], title: str, networks: Sequence[str] = ()) -> bool:
        """Write pages, uint8 (page, y, x, rgb), as a series of the exam; False before any image.

        Those of `gadgets.summary` say themselves that they are computed.
        """
        context = next(iter(self._contexts.values()), None)
        if context is None:
            return False
        sources = [image for images in self._images.values() for image in images]
        for dataset in secondary_captures(
            context,
            pages,
            f"[AI] {title}",
            9002,
            ("summary", title),
            1,
            Role.DERIVED,
            networks,
            sources,
        ):
            self._put(dataset)
        return True

    def _of(self, series: str) -> tuple[Context | None, list[Dataset]]:
        """Return what is known of a series: its own name, or its step's ("name echo 2")."""
        steps = [step for step in self._contexts if series == step or series.startswith(f"{step} ")]
        if not steps:
            return None, []
        step = max(steps, key=len)
        return self._contexts[step], self._images[step]

    def _context(self, measurement: str, header: Header | None) -> Context:
        identity = from_header(header, measurement)
        if self._lookup is not None:
            identity = self._lookup(identity)
        return Context(self._settings, identity, measurement, header)

    def _wrote(
        self, context: Context, datasets: Iterable[Dataset], acquired: bool
    ) -> list[Dataset]:
        """Hand objects on; returns them without their pixels."""
        written = []
        for dataset in datasets:
            self._put(dataset)
            about = Dataset({e.tag: e for e in dataset if e.tag != 0x7FE00010})
            about.file_meta = dataset.file_meta
            written.append(about)
        if acquired and written:
            if self._contexts.get(context.step) is not context:
                self._contexts[context.step] = context
                self._images[context.step] = []
            images = self._images[context.step]
            # Of several acquired series of a step, the first stands for it.
            first = images[0].SeriesInstanceUID if images else written[0].SeriesInstanceUID
            images += [image for image in written if image.SeriesInstanceUID == first]
        return written


class DicomSink:
    """The images of one measurement, in a thread of their own.

    Attributes
    ----------
    measurement : str
    errors : list of str
        What could not be written.
    owing : bool
        Not all objects have been handed on, and making them anew may help: images were more than
        may wait, or what takes the objects has no room.
    complete : bool
        As `end` was told; False before.
    done : threading.Event
        No more objects will come, and `ended` was told.
    """

    def __init__(
        self,
        exam: DicomExam,
        measurement: str,
        header: Header | None,
        ended: "Callable[[DicomSink], None]" = lambda sink: None,
    ) -> None:
        self.measurement = measurement
        self.errors: list[str] = []
        self.owing = self.complete = False
        self.done = threading.Event()
        self._ended = ended
        self._exam = exam
        self._measurement = measurement
        self._header = header
        self._log = log.get(measurement=measurement)
        self._messages: queue.SimpleQueue[ImageMessage | bool] = queue.SimpleQueue()
        # Each is counted up by one thread only.
        self._bytes_in = self._bytes_out = 0
        self._series: dict[SeriesKey, list[Picture]] = defaultdict(list)
        self._acquired: dict[int, list[Dataset]] = defaultdict(list)
        self._thread = threading.Thread(target=self._run, name="dicom", daemon=True)
        self._thread.start()

    def add(self, message: ImageMessage, wait: bool = False) -> None:
        """Take an image that left.

        Parameters
        ----------
        message : ImageMessage
        wait : bool
            For room, where too many wait. Otherwise it returns at once, and the image is left to be
            made anew (`owing`).
        """
        while self._bytes_in - self._bytes_out > WAITING_BYTES:
            if not wait:
                self.owing = True
                return
            time.sleep(LOOK_S)
        self._bytes_in += message.data.nbytes
        self._messages.put(message)

    def end(self, complete: bool = True) -> None:
        """Take note that no more images will come; returns at once.

        Parameters
        ----------
        complete : bool
            False where the measurement will be done again (`agent.recover`): Enhanced MR Images,
            which want all of a series, are left to that.
        """
        self._messages.put(complete)

    def close(self, complete: bool = True) -> list[str]:
        """As `end`, and wait until every object is handed on; returns `errors`."""
        self.end(complete)
        self._thread.join()
        return self.errors

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:
            self._fail("measurement", error)
        finally:
            self._ended(self)
            self.done.set()

    def _write(self) -> None:
        try:
            context = self._exam._context(self._measurement, self._header)
        except Exception as error:
            self._fail("identity", error)
            context = Context(
                self._exam._settings,
                from_header(None, self._measurement),
                self._measurement,
                self._header,
            )
        while not isinstance(message := self._messages.get(), bool):
            try:
                self._take(context, message)
            except Exception as error:
                self._fail("image", error)
            self._bytes_out += message.data.nbytes
        self.complete = message
        if not message or self.owing:
            return
        # Acquired series first: the others refer to them.
        order = sorted(self._series, key=lambda key: (key[2] != Role.ACQUIRED, key))
        for key in order:
            try:
                pictures = self._series[key]
                sources = self._sources(pictures)
                series_uid = uid("series", self._measurement, *key)
                objects = enhanced_mr_images(context, pictures, series_uid, sources)
                self._wrote(context, pictures[0], objects)
            except Exception as error:
                self._fail("series", error)

    def _take(self, context: Context, message: ImageMessage) -> None:
        picture = read_picture(message)
        page = picture.page
        if page is not None:
            self._take_page(context, picture, page)
            return
        if picture.role is Role.SYNTHETIC:
            picture = _burned(picture)
        key = (picture.series, picture.quantity, str(picture.role), picture.component)
        if self._exam._settings.objects == "enhanced":
            self._series[key].append(picture)
            return
        series_uid = uid("series", self._measurement, *key)
        objects = mr_images(context, picture, series_uid, self._sources([picture]))
        self._wrote(context, picture, objects)

    def _take_page(self, context: Context, picture: Picture, page: NDArray[np.uint8]) -> None:
        if picture.quantity not in PAGES:  # Those of a summary have a mark of their own.
            page = burn(page, RESEARCH, 0, 255)
        title = series_description(context, picture)
        number = context.series_number(picture.series)
        objects = secondary_captures(
            context,
            page,
            title,
            number,
            ("pages", picture.series),
            picture.index,
            picture.role,
            picture.networks,
        )
        self._wrote(context, picture, objects)

    def _wrote(self, context: Context, picture: Picture, objects: Iterable[Dataset]) -> None:
        acquired = picture.role is Role.ACQUIRED and picture.page is None
        written = self._exam._wrote(context, objects, acquired)
        if acquired:
            number = -1 if self._exam._settings.objects == "enhanced" else picture.counters["slice"]
            self._acquired[number] += written

    def _sources(self, pictures: Sequence[Picture]) -> list[Dataset]:
        """Return the acquired objects of this measurement which images were computed of."""
        if all(picture.role is Role.ACQUIRED for picture in pictures):
            return []
        slices = {picture.counters["slice"] for picture in pictures} | {-1}
        return [image for number in sorted(slices) for image in self._acquired.get(number, ())]

    def _fail(self, what: str, error: Exception) -> None:
        self.owing |= isinstance(error, OSError | sqlite3.Error)
        self.errors.append(f"{what}: {error}")
        self._log.error("no DICOM object made", of=what, exc_info=error)


def _burned(picture: Picture) -> Picture:
    """Return an image with "SYNTHETIC" in its pixels."""
    center, width = picture.window
    low, high = (
        (value - picture.intercept) / picture.slope
        for value in (center - width / 2, center + width / 2)
    )
    return replace(picture, pixels=burn(picture.pixels, SYNTHETIC, low, high))
