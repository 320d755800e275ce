"""Talking to one PACS: C-STORE, and the question for Storage Commitment (N-ACTION)."""

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from agent.dicom_settings import Tls
from agent.outbox_settings import Destination, OutboxSettings
from agent.outbox_store import Entry

_DUPLICATE = 0x0111
REQUEST_COMMITMENT = 1


class PeerAway(Exception):
    """A peer cannot be reached, refuses the association, or went away in the middle of it."""


def tls_context(tls: Tls, server: bool) -> ssl.SSLContext:
    """Return TLS 1.2 or later, both sides with a certificate."""
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=str(tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    return context


class Peer:
    """A destination.

    Parameters
    ----------
    destination : Destination
    settings : OutboxSettings
    ae_title : str
        Ours.
    on_report : callable
        Takes an N-EVENT-REPORT that comes on our own association, returns its status.
    """

    def __init__(
        self,
        destination: Destination,
        settings: OutboxSettings,
        ae_title: str,
        on_report: Callable[[evt.Event], tuple[int, None]],
    ) -> None:
        self._destination = destination
        self._on_report = on_report
        self._entity = AE(ae_title)
        self._entity.acse_timeout = settings.timeout_s
        self._entity.dimse_timeout = settings.timeout_s
        self._entity.network_timeout = settings.timeout_s
        self._entity.connection_timeout = settings.timeout_s

    @contextmanager
    def storing(self, kinds: set[tuple[str, str]]) -> Iterator[Association]:
        """Associate for SOP classes in transfer syntaxes.

        Raises
        ------
        PeerAway
        """
        contexts = [build_context(kind, syntax) for kind, syntax in sorted(kinds)]
        with self._associated(contexts) as association:
            yield association

    def store(self, association: Association, entry: Entry) -> str:
        """Send one object; returns why it was not taken, "" where it was.

        Raises
        ------
        PeerAway
        """
        try:
            dataset = dcmread(entry.path)
            status = association.send_c_store(dataset)
        except (OSError, InvalidDicomError) as error:
            return f"its file cannot be read: {type(error).__name__}"
        except ValueError:
            return "the peer does not take objects of this kind"
        except RuntimeError as error:
            raise PeerAway(str(error)) from None
        if "Status" not in status:
            raise PeerAway("no answer to C-STORE")
        code = int(status.Status)
        if code == 0 or code & 0xF000 == 0xB000 or code == _DUPLICATE:
            return ""
        return f"status {code:04X}"

    def ask(self, question: str, entries: Sequence[Entry], wait_s: float) -> str:
        """Ask for commitment; returns why the question was not taken, "" where it was.

        Parameters
        ----------
        question : str
            Transaction UID.
        entries : sequence of Entry
        wait_s : float
            How long an answer may come on the same association; it is cut where it is under way
            when the association is released.

        Raises
        ------
        PeerAway
        """
        about = Dataset()
        about.TransactionUID = question
        about.ReferencedSOPSequence = []
        for entry in entries:
            item = Dataset()
            item.ReferencedSOPClassUID = entry.sop_class
            item.ReferencedSOPInstanceUID = entry.uid
            about.ReferencedSOPSequence.append(item)
        reported, responded = threading.Event(), threading.Event()

        def on_report(event: evt.Event) -> tuple[int, None]:
            try:
                return self._on_report(event)
            finally:
                reported.set()

        def on_sent(_: evt.Event) -> None:
            if reported.is_set():
                responded.set()

        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_N_EVENT_REPORT, on_report),
            (evt.EVT_PDU_SENT, on_sent),
        ]
        contexts = [build_context(StorageCommitmentPushModel)]
        with self._associated(contexts, handlers) as association:
            try:
                status, _ = association.send_n_action(
                    about,
                    REQUEST_COMMITMENT,
                    StorageCommitmentPushModel,
                    StorageCommitmentPushModelInstance,
                )
            except ValueError:
                return "the peer knows no storage commitment"
            except RuntimeError as error:
                raise PeerAway(str(error)) from None
            if "Status" not in status:
                raise PeerAway("no answer to N-ACTION")
            if status.Status:
                return f"commitment refused: status {status.Status:04X}"
            responded.wait(wait_s)
            return ""

    @contextmanager
    def _associated(
        self,
        contexts: list[PresentationContext],
        handlers: list[evt.EventHandlerType] | None = None,
    ) -> Iterator[Association]:
        to = self._destination
        association = self._entity.associate(
            to.host,
            to.port,
            contexts,
            to.ae_title,
            tls_args=(tls_context(to.tls, False), to.host) if to.tls else None,
            evt_handlers=handlers,
        )
        if not association.is_established:
            what = "refused the association" if association.is_rejected else "cannot be reached"
            raise PeerAway(f"{to.name} {what}")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()
