"""The modality worklist: who lies on the table (C-FIND, PS3.4 K.6).

The MRD header of most scanners holds little of a patient, often nothing. The worklist knows what
was ordered; an answer counts only where it can be nobody else's. Answers are kept beside the
outbox, so that all objects of a study, also those made after a restart, say the same.
"""

import json
import os
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityWorklistInformationFind,
)

from agent import log
from agent.dicom_identity import Identity, from_worklist
from agent.dicom_settings import WorklistSettings
from agent.dicom_uid import uid
from agent.outbox_peer import PeerAway, tls_context

MOST = 200
_PENDING = (0xFF00, 0xFF01)


class Worklist:
    """A worklist, and what it has answered.

    Parameters
    ----------
    settings : WorklistSettings
    folder : path
        For the answers. They hold names.
    ae_title : str
        Ours.
    """

    def __init__(self, settings: WorklistSettings, folder: Path, ae_title: str) -> None:
        self._settings = settings
        self._folder = folder
        self._ae_title = ae_title
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def complete(self, identity: Identity) -> Identity:
        """Return an identity with what was ordered for it; as it was where that is not certain.

        Asked for is the header's accession number, else its patient id, else what is scheduled
        today for the scanner. Exactly one study may answer. Blocks until it does, at most
        ``timeout_s`` for each step.
        """
        with self._lock:
            path = self._folder / f"{uid('worklist', identity.study_uid)}.json"
            try:
                if path.exists():
                    return from_worklist(identity, Dataset.from_json(path.read_text()))
                item = self._one(identity)
                if item is None:
                    return identity
                found, text = from_worklist(identity, item), json.dumps(item.to_json_dict())
            except PeerAway as error:
                log.get().warning("worklist is away: identity is the header's", reason=str(error))
                return identity
            except Exception as error:
                # pydicom reads an answer as it is used, and raises whatever it stumbles over.
                reason = type(error).__name__  # its message may hold a name
                log.get().warning("worklist: unreadable, identity is the header's", reason=reason)
                return identity
            part = path.with_suffix(".part")
            with open(part, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            return found

    def _one(self, identity: Identity) -> Dataset | None:
        items = self.find(
            accession=identity.accession,
            patient_id="" if identity.accession else identity.patient_id,
            day=None if identity.accession or identity.patient_id else date.today(),
        )
        studies = {str(item.get("StudyInstanceUID", "")): item for item in items}
        if identity.study_uid in studies:
            return studies[identity.study_uid]
        if len(studies) != 1:
            log.get().warning(
                "worklist: expected one study, identity is the header's", studies=len(studies)
            )
            return None
        return next(iter(studies.values()))

    def find(
        self, accession: str = "", patient_id: str = "", day: date | None = None
    ) -> Sequence[Dataset]:
        """Return the items that match; empty keys match everything.

        Raises
        ------
        PeerAway
        """
        settings = self._settings
        entity = AE(self._ae_title)
        entity.acse_timeout = entity.dimse_timeout = settings.timeout_s
        entity.network_timeout = entity.connection_timeout = settings.timeout_s
        entity.add_requested_context(ModalityWorklistInformationFind)
        association = entity.associate(
            settings.host,
            settings.port,
            ae_title=settings.ae_title,
            tls_args=(tls_context(settings.tls, False), settings.host) if settings.tls else None,
        )
        if not association.is_established:
            raise PeerAway("no association")
        found = []
        try:
            keys = _keys(settings.station_ae_title, accession, patient_id, day)
            for status, item in association.send_c_find(keys, ModalityWorklistInformationFind):
                if "Status" not in status:
                    raise PeerAway("no answer to C-FIND")
                if status.Status in _PENDING and item is not None:
                    found.append(item)
                elif status.Status != 0:
                    raise PeerAway(f"C-FIND failed with status {status.Status:04X}")
                if len(found) > MOST:
                    association.abort()
                    raise PeerAway(f"more than {MOST} items match")
        finally:
            if association.is_established:
                association.release()
        return found


def _keys(station: str, accession: str, patient_id: str, day: date | None) -> Dataset:
    """Return matching and return keys (PS3.4 table K.6-1)."""
    keys = Dataset()
    keys.SpecificCharacterSet = "ISO_IR 192"
    keys.AccessionNumber = accession
    keys.PatientID = patient_id
    for name in (
        "ReferringPhysicianName",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(keys, name, "")
    step = Dataset()
    step.ScheduledStationAETitle = station
    step.Modality = "MR"
    step.ScheduledProcedureStepStartDate = day.strftime("%Y%m%d") if day else ""
    for name in (
        "ScheduledProcedureStepStartTime",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepDescription",
    ):
        setattr(step, name, "")
    keys.ScheduledProcedureStepSequence = [step]
    return keys
