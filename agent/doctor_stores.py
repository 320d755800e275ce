"""Checks of what the agent keeps: keys, certificates, engines, spool, outbox and audit."""

import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.config import Listen, Settings, SpoolSettings
from agent.control_settings import ControlSettings
from agent.doctor import Check, ok, warning, wrong
from agent.outbox_settings import OutboxSettings
from agent.running import process

OLD_S = 3600.0
EXPIRES_SOON = timedelta(days=30)


def keys(settings: ControlSettings | None) -> Iterator[Check]:
    """Look at the CURVE keys of the control channel, and who else may read them."""
    if settings is None:
        yield ok("keys", "no control channel")
        return
    if settings.keys is None:
        mend = "boreside keys make, and control.keys"
        yield warning("keys", "control channel without keys, on the loopback interface", mend)
        return
    from agent.control_keys import ADMITTED, AGENT, KeyFileError, admitted, agent_pair

    folder = settings.keys
    try:
        agent_pair(folder)
    except KeyFileError as error:
        yield wrong("keys agent", str(error), f"boreside keys make --folder {folder}")
        return
    secret = folder / f"{AGENT}.key_secret"
    yield _private("keys agent", secret)
    left = [path.name for path in folder.glob("*.key_secret") if path != secret]
    if left:
        mend = "move them to their scanners, and delete them here"
        yield warning("keys scanners", f"secret keys of scanners: {', '.join(left)}", mend)
    names = list(admitted(folder).values())
    if names:
        yield ok("keys admitted", ", ".join(names))
    else:
        mend = f"boreside keys make SCANNER, or its public key into {folder / ADMITTED}"
        yield warning("keys admitted", "no scanner may connect", mend)


def tls(settings: Listen) -> Iterator[Check]:
    """Look at the certificate of the MRD port, and who else may read its key."""
    if settings.tls is None:
        if settings.loopback or settings.scanners:
            yield ok("tls", "MRD without TLS" + (", allow-list" if settings.scanners else ""))
        else:
            mend = "listen.tls, or at least listen.scanners with the scanner's address"
            yield warning("tls", f"anybody who reaches {settings.host} may send and read", mend)
        return
    from agent.tls import server_context

    server_context(settings.tls)
    yield _private("tls key", settings.tls.key)
    try:
        from cryptography.x509 import load_pem_x509_certificate
    except ImportError:
        yield warning("tls certificate", "end not known", "pip install 'boreside[signed]'")
        return
    certificate = load_pem_x509_certificate(settings.tls.certificate.read_bytes())
    ends = certificate.not_valid_after_utc
    said = f"{settings.tls.certificate} is valid until {ends:%Y-%m-%d}"
    now = datetime.now(UTC)
    mend = "a new certificate; then SIGHUP, or systemctl reload"
    if ends < now:
        yield wrong("tls certificate", said, mend)
    elif ends < now + EXPIRES_SOON:
        yield warning("tls certificate", said, mend)
    else:
        yield ok("tls certificate", said)


def engines(settings: Settings) -> Iterator[Check]:
    """Let the newest version of each network prove itself on the runtime in use."""
    from agent.engines import options, store
    from engines.engine import open_engine
    from engines.errors import EngineUnavailable

    here = store(settings.engines)
    runtime = settings.engines.runtime
    asked = options(settings.engines, settings.threads)
    seen = set()
    for found in here.networks():
        if found.name in seen:
            continue
        seen.add(found.name)
        name = f"engine {found.name}"
        if found.problem:
            mend = f"boreside engine update with weights that are whole; {found.folder} is not used"
            yield wrong(name, f"{found.version} refused: {found.problem}", mend)
            continue
        try:
            engine = open_engine(here.open(found.name, found.version), runtime, asked)
        except EngineUnavailable as error:
            mend = "another engines.runtime, or other weights; until then images are conventional"
            yield wrong(name, f"{found.version} on {runtime}: {error.reason}", mend)
            continue
        signed = ", signed" if found.signed else ""
        said = f"{found.version} on {engine.runtime}, golden vector within {engine.prove():.1e}"
        yield ok(name, said + signed)
    if not seen:
        yield wrong("engine", "no networks", "install the package again: weights ship with it")


def spool(settings: SpoolSettings) -> Iterator[Check]:
    """Look for measurements which nobody has finished, and who else may read the folder."""
    from agent.recover import pending
    from agent.spool import Spool

    folder = settings.folder
    if not folder.is_dir():
        yield ok("spool", f"{folder} will be made")
        return
    yield _private("spool", folder)
    measurements = Spool(settings)
    failed = [n for n in measurements.names() if measurements.state(n).get("outcome") == "failed"]
    left = pending(measurements)
    if failed:
        mend = "boreside export them, and look at `errors` in their .json"
        yield warning("spool failed", f"{len(failed)} measurements not reconstructed", mend)
    if process(folder) is not None:
        yield ok("spool measurements", f"{len(measurements.names())}; an agent is running")
    elif left:
        mend = "boreside recover, or start the agent"
        yield warning("spool measurements", f"{len(left)} not finished", mend)
    else:
        yield ok("spool measurements", f"{len(measurements.names())}, all finished")


def outbox(settings: OutboxSettings | None) -> Iterator[Check]:
    """Look what still waits for a PACS, for how long, and why."""
    if settings is None or not settings.folder.is_dir():
        yield ok("outbox", "nothing was ever sent")
        return
    from agent.outbox_store import State, Store

    yield _private("outbox", settings.folder)
    store = Store(settings)
    try:
        for destination, counts in store.counts().items():
            left = sum(count for state, count in counts.items() if state != State.DONE)
            name = f"outbox {destination}"
            errors = store.errors(destination)
            if errors:
                why = "; ".join(f"{count}x {error}" for error, count in errors.items())
                yield warning(name, f"{left} wait: {why}", "see the check of this PACS")
            else:
                yield ok(name, f"{left} wait, {counts.get(State.DONE, 0)} delivered")
    finally:
        store.close()
    oldest = min((p.stat().st_mtime for p in settings.folder.glob("*.dcm")), default=time.time())
    if (hours := (time.time() - oldest) / 3600) * 3600 > OLD_S:
        yield warning("outbox age", f"the oldest waits for {hours:.1f} h", "see the PACS")


def audit(folder: Path) -> Iterator[Check]:
    """Verify the chain of records."""
    if not folder.is_dir():
        yield ok("audit", f"{folder} will be made, of agents that look at exams")
        return
    from agent.audit_chain import verify

    yield _private("audit", folder)
    found = verify(folder)
    if found.problems:
        said = f"{len(found.problems)} problems, the first at {found.problems[0]}"
        mend = "keep the folder as it is, tell who is responsible, and set another audit.folder"
        yield wrong("audit records", said, mend)
    else:
        yield ok("audit records", f"{found.records} records, as they were written")


def _private(name: str, path: Path) -> Check:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        mend = f"chmod {'700' if path.is_dir() else '600'} {path}"
        return warning(name, f"{path} is open to others ({mode:04o})", mend)
    return ok(name, f"{path}, its owner's only")
