"""Fixtures that every room's tests may use."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, which lies beside the checkout where it is present."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data (../shared/data) is not on this machine")
    return SHARED_DATA


class TinyNetwork:
    """A network in the store's layout: it smooths real and imaginary part with one kernel."""

    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 16

    def smoothed(self, planes: np.ndarray) -> np.ndarray:
        """Return what it makes of planes (batch, 3, y, x): float64 (batch, 2, y, x)."""
        kernel = self.kernel.astype(np.float64)[None, None]
        return ndimage.convolve(planes[:, :2].astype(np.float64), kernel, mode="constant")

    def write(self, root: Path, name: str = "tiny", version: str = "1.0", **fields: Any) -> Path:
        """Write ``root/<name>/<version>``; ``fields`` go into the manifest."""
        from engines.manifest import Manifest, TensorSpec
        from engines.store import seal, write_golden

        onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra dev")
        floats = onnx.TensorProto.FLOAT
        weight = np.zeros((2, 3, 3, 3), np.float32)
        weight[0, 0] = weight[1, 1] = self.kernel
        values = [
            onnx.helper.make_tensor_value_info(key, floats, ["b", count, "y", "x"])
            for key, count in (("planes", 3), ("smooth", 2))
        ]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["planes", "weight"], ["smooth"], pads=[1, 1, 1, 1])],
            name,
            values[:1],
            values[1:],
            [onnx.numpy_helper.from_array(weight, "weight")],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        folder = root / name / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "card.md").write_text("Smooths. Trained on nothing.\n")
        planes = np.random.default_rng(0).standard_normal((1, 3, 16, 24)).astype(np.float32)
        golden = self.smoothed(planes).astype(np.float32)
        write_golden(folder / "golden.npz", {"planes": planes}, {"planes": golden})
        axes, channels = ("batch", "channel", "y", "x"), ("real", "imaginary", "sigma")
        about = {
            "kind": "denoiser",
            "architecture": {"name": "smoothing"},
            "inputs": [TensorSpec(name="planes", axes=axes, channels=channels)],
            "outputs": [TensorSpec(name="planes", axes=axes, channels=channels[:2])],
            "licence": "Apache-2.0",
        }
        seal(folder, Manifest(name=name, version=version, **{**about, **fields}))
        return folder


@pytest.fixture(scope="session")
def tiny_network() -> TinyNetwork:
    """Networks small enough to be made in a test."""
    return TinyNetwork()


class Orthanc:
    """Debian's PACS, with a folder of its own; it knows BORESIDE, and calls it back.

    Attributes
    ----------
    dicom, http, calls_back : int
        Its ports, and the one where it tells what it commits itself to.
    """

    START_S = 120

    def __init__(self, program: str, folder: Path) -> None:
        self.dicom, self.http, self.calls_back = _free_port(), _free_port(), _free_port()
        folder.mkdir()
        self._program = program
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(
            json.dumps(
                {
                    "Name": "test",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "index"),
                    "Plugins": [],
                    "DicomAet": "ORTHANC",
                    "DicomPort": self.dicom,
                    "HttpPort": self.http,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomCheckCalledAet": True,
                    "DicomModalities": {"boreside": ["BORESIDE", "127.0.0.1", self.calls_back]},
                }
            )
        )

    @contextmanager
    def running(self) -> Iterator["Orthanc"]:
        process = subprocess.Popen(
            [self._program, str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + self.START_S
            while True:
                try:
                    self.get("/system")
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, "no Orthanc"
                    time.sleep(0.05)
            yield self
        finally:
            process.terminate()
            process.wait(30)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def instances(self) -> dict[str, Any]:
        """Return the objects that it has, by SOP Instance UID."""
        from pydicom import dcmread
        from pydicom.filebase import DicomBytesIO

        files = [self.get(f"/instances/{n}/file") for n in json.loads(self.get("/instances"))]
        read = [dcmread(DicomBytesIO(raw)) for raw in files]
        return {str(dataset.SOPInstanceUID): dataset for dataset in read}

    def find(self, study: str) -> list[Any]:
        """Return the series of a study, as C-FIND has them."""
        from pydicom.dataset import Dataset
        from pynetdicom import AE
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find

        entity = AE("BORESIDE")
        entity.add_requested_context(Find)
        association = entity.associate("127.0.0.1", self.dicom, ae_title="ORTHANC")
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES"
        keys.StudyInstanceUID = study
        keys.SeriesInstanceUID = keys.SeriesDescription = keys.PatientName = ""
        found = [item for _, item in association.send_c_find(keys, Find) if item is not None]
        association.release()
        return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def orthanc_server(tmp_path: Path) -> Callable[[], Orthanc]:
    """Make an Orthanc that does not run yet, or skip."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not on this machine (apt-get install orthanc)")
    return lambda: Orthanc(program, tmp_path / "orthanc")
