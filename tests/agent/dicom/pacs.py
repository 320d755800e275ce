"""A PACS as a process of its own: `python pacs.py '{"folder": ...}'` prints its port, and serves.

It writes `UID.dcm` of what it stores and a line of `received` for each C-STORE, keeps promises of
storage commitment as it is told to, and answers for a worklist from `worklist.json`.
"""

import json
import sys
import threading
import time
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from agent.dicom_settings import Tls
from agent.outbox_peer import tls_context


class Pacs:
    """A PACS that does as its options say.

    folder, port, tls; refuse_first: C-STOREs; delay_s: of each; without: SOP classes;
    commitment: "same" (association), [host, port] (calls back) or null; lose: UIDs that it says it
    has lost, once.
    """

    def __init__(self, options: dict) -> None:
        self.folder = Path(options["folder"])
        self.folder.mkdir(exist_ok=True, parents=True)
        self.options = options
        self.lock = threading.Lock()
        self.refuse = options.get("refuse_first", 0)
        self.lose = set(options.get("lose", ()))

    def store(self, event: evt.Event) -> int:
        time.sleep(self.options.get("delay_s", 0))
        uid = event.request.AffectedSOPInstanceUID
        with self.lock:
            with open(self.folder / "received", "a") as file:
                file.write(f"{uid}\n")
            if self.refuse > 0:
                self.refuse -= 1
                return 0xA700
            (self.folder / f"{uid}.dcm").write_bytes(event.encoded_dataset(include_meta=False))
        return 0x0000

    def commit(self, event: evt.Event) -> tuple[int, None]:
        about = event.action_information
        answer = Dataset()
        answer.TransactionUID = about.TransactionUID
        answer.ReferencedSOPSequence, failed = [], []
        for item in about.ReferencedSOPSequence:
            uid = item.ReferencedSOPInstanceUID
            if uid in self.lose or not (self.folder / f"{uid}.dcm").exists():
                self.lose.discard(uid)
                item.FailureReason = 0x0112
                failed.append(item)
            else:
                answer.ReferencedSOPSequence.append(item)
        if failed:
            answer.FailedSOPSequence = failed
        threading.Thread(target=self.report, args=(event, answer), daemon=True).start()
        return 0x0000, None

    def report(self, event: evt.Event, answer: Dataset) -> None:
        kind = 2 if "FailedSOPSequence" in answer else 1
        how = self.options.get("commitment")
        if how == "same":
            event.assoc.send_n_event_report(
                answer, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        elif how:
            entity = AE("PACS")
            entity.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = entity.associate(*how, ae_title="BORESIDE", ext_neg=[role])
            if association.is_established:
                association.send_n_event_report(
                    answer, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
                )
                association.release()

    def find(self, event: evt.Event):
        time.sleep(self.options.get("delay_s", 0))
        keys = event.identifier
        with open(self.folder / "asked", "a") as file:
            file.write(f"{keys.to_json()}\n")
        for text in json.loads((self.folder / "worklist.json").read_text()):
            item = Dataset.from_json(text)
            if all(
                not keys.get(name) or keys.get(name) == item.get(name)
                for name in ("AccessionNumber", "PatientID")
            ):
                yield 0xFF00, item

    def serve(self) -> None:
        entity = AE("PACS")
        without = self.options.get("without", ())
        entity.supported_contexts = [
            context
            for context in AllStoragePresentationContexts
            if context.abstract_syntax not in without
        ]
        entity.add_supported_context(Verification)
        entity.add_supported_context(ModalityWorklistInformationFind)
        entity.add_supported_context(StorageCommitmentPushModel)
        tls = self.options.get("tls")
        server = entity.start_server(
            ("127.0.0.1", self.options.get("port", 0)),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self.store),
                (evt.EVT_N_ACTION, self.commit),
                (evt.EVT_C_FIND, self.find),
            ],
            ssl_context=tls_context(Tls.model_validate(tls), True) if tls else None,
        )
        print(server.server_address[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    Pacs(json.loads(sys.argv[1])).serve()
