"""Checks of what is connected: our own ports, the PACS, the worklist."""

import socket
from collections.abc import Iterator

from agent.config import Settings
from agent.dicom_settings import DicomSettings
from agent.doctor import Check, ok, warning, wrong
from agent.outbox_settings import Destination
from agent.running import process

TIMEOUT_S = 10.0


def ports(settings: Settings) -> Iterator[Check]:
    """Try to listen where the agent will, unless it is running already."""
    pid = process(settings.spool.folder)
    wanted = [("mrd", settings.listen.host, settings.listen.port)]
    if settings.control is not None:
        control = settings.control
        wanted.append(("control", control.host, control.port))
        wanted.append(("telemetry", control.host, control.telemetry_port))
    if settings.outbox is not None and settings.outbox.listen_port:
        wanted.append(("commitment", settings.outbox.listen_host, settings.outbox.listen_port))
    if settings.metrics is not None:
        wanted.append(("metrics", settings.metrics.host, settings.metrics.port))
    for what, host, port in wanted:
        name = f"port {what}"
        if not port:
            yield ok(name, f"any free one of {host}")
            continue
        try:
            _listen(host, port)
        except OSError as error:
            if pid is not None and _answers(host, port):
                yield ok(name, f"{host}:{port}: the agent listens, process {pid}")
            else:
                mend = f"end what uses it (ss -ltnp sport = :{port}), or set another address"
                yield wrong(name, f"{host}:{port}: {error.strerror or error}", mend)
        else:
            yield ok(name, f"{host}:{port} is free")


def _listen(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port), family=family).close()


def _answers(host: str, port: int) -> bool:
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    try:
        socket.create_connection((anywhere.get(host, host), port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def pacs(settings: Settings) -> Iterator[Check]:
    """Ask each destination for an echo, and whether it takes MR images."""
    outbox = settings.outbox
    if outbox is None or not outbox.destinations:
        yield ok("pacs", "no destinations: nothing is sent as DICOM")
        return
    for destination in outbox.destinations:
        yield _echo(destination, settings.dicom.ae_title, min(TIMEOUT_S, outbox.timeout_s))


def _echo(to: Destination, ours: str, timeout_s: float) -> Check:
    from pynetdicom import AE
    from pynetdicom.sop_class import MRImageStorage, Verification  # type: ignore[attr-defined]

    from agent.outbox_peer import tls_context

    name, where = f"pacs {to.name}", f"{to.ae_title} at {to.host}:{to.port}"
    entity = AE(ours)
    entity.acse_timeout = entity.dimse_timeout = timeout_s
    entity.network_timeout = entity.connection_timeout = timeout_s
    entity.add_requested_context(Verification)
    entity.add_requested_context(MRImageStorage)
    tls = (tls_context(to.tls, False), to.host) if to.tls else None
    association = entity.associate(to.host, to.port, ae_title=to.ae_title, tls_args=tls)
    if association.is_rejected:
        mend = f"have {ours} entered at the PACS, and look at ae_title"
        return wrong(name, f"{where} refuses the association of {ours}", mend)
    if not association.is_established:
        mend = "host, port, firewall and TLS of the destination"
        return wrong(name, f"{where} cannot be reached", mend)
    try:
        takes = {each.abstract_syntax for each in association.accepted_contexts}
        if MRImageStorage not in takes:
            return wrong(name, f"{where} takes no MR Image Storage", "let the PACS accept it")
        if Verification not in takes:
            return ok(name, f"{where} takes MR images, and knows no C-ECHO")
        status = association.send_c_echo()
        if "Status" not in status or status.Status:
            return wrong(name, f"{where} does not answer C-ECHO", "look at the PACS's log")
    finally:
        if association.is_established:
            association.release()
    return ok(name, f"{where} answers C-ECHO and takes MR images")


def worklist(dicom: DicomSettings) -> Iterator[Check]:
    """Ask the worklist what is scheduled today; who, is not shown."""
    about = dicom.worklist
    if about is None:
        yield ok("worklist", "none: identity is the MRD header's")
        return
    import tempfile
    from datetime import date
    from pathlib import Path

    from agent.outbox_peer import PeerAway
    from agent.worklist import Worklist

    where = f"{about.ae_title} at {about.host}:{about.port}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = Worklist(about, Path(folder), dicom.ae_title).find(day=date.today())
        except PeerAway as error:
            mend = "host, port, ae_title and firewall; until then identity is the MRD header's"
            yield wrong("worklist", f"{where}: {error}", mend)
            return
    said = f"{where} answers: {len(found)} today for {about.station_ae_title}"
    if found:
        yield ok("worklist", said)
    else:
        mend = "dicom.worklist.station_ae_title must be the scanner's, as steps are scheduled"
        yield warning("worklist", said, mend)
