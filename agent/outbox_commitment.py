"""Storage Commitment, the answers: N-EVENT-REPORT of a PACS (PS3.4 J.3.3).

They come on our own association or, as most do, on one which the PACS opens to us.
"""

from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

from agent import log
from agent.outbox_peer import tls_context
from agent.outbox_settings import OutboxSettings

_SUCCESS, _INVALID_ARGUMENT = 0x0000, 0x0115

Answer = Callable[[str, Sequence[str], Sequence[str]], object]


def report_handler(answer: Answer) -> Callable[[evt.Event], tuple[int, None]]:
    """Return the handler of N-EVENT-REPORT.

    Parameters
    ----------
    answer : callable
        Takes the transaction, and the SOP Instance UIDs that are committed and that are not.
    """

    def handle(event: evt.Event) -> tuple[int, None]:
        try:
            about = event.event_information
            question = str(about.TransactionUID)
            committed = _uids(about, "ReferencedSOPSequence")
            failed = _uids(about, "FailedSOPSequence")
        except Exception as error:
            log.get().warning("storage commitment report cannot be read", exc_info=error)
            return _INVALID_ARGUMENT, None
        answer(question, committed, failed)
        return _SUCCESS, None

    return handle


def _uids(about: Dataset, keyword: str) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in about.get(keyword) or ()]


class Listener:
    """Takes the associations that PACS open to answer; and C-ECHO, for those who test the way.

    Parameters
    ----------
    settings : OutboxSettings
        With ``listen_port``.
    ae_title : str
    handler : callable
        From `report_handler`.

    Attributes
    ----------
    port : int
    """

    def __init__(
        self,
        settings: OutboxSettings,
        ae_title: str,
        handler: Callable[[evt.Event], tuple[int, None]],
    ) -> None:
        entity = AE(ae_title)
        entity.network_timeout = entity.dimse_timeout = settings.timeout_s
        entity.add_supported_context(Verification)
        # The peer is the provider (SCP), though it calls us.
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        tls = settings.listen_tls
        self._server = entity.start_server(
            (settings.listen_host, settings.listen_port or 0),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, handler)],
            ssl_context=tls_context(tls, True) if tls else None,
        )
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
