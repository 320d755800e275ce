"""The whole chain, from readouts to images, where there is no PyTorch, CUDA or TensorRT.

It runs in a process of its own in which importing any of them fails.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = ("torch", "cupy", "tensorrt", "torch_tensorrt", "openvino", "onnx", "nvidia", "triton")

PROGRAM = """
import json, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Forbidden())

from agent import chains, engines
from agent.config import Settings
from bench.data import measurement
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage

engines.use(Settings(engines={"site": SITE}, threads=2))
scan = measurement((64, 64, 1), coils=8, acceleration=2, snr=20)
found = {}
for name in ("conventional", "dl", "denoise"):
    gadget = chains.build(name, parse_header(scan.header.xml), "float32")
    (image,) = [m for m in gadget(iter([scan.noise, scan.readouts])) if isinstance(m, ImageMessage)]
    meta = parse_meta(image.attributes)
    found[name] = {
        "history": meta["ImageProcessingHistory"],
        "ai": meta.get("BoresideAI"),
        "fallback": meta.get("BoresideFallback"),
        "shape": image.data.shape,
        "largest": float(image.data.max()),
    }
found["imported"] = sorted(set(FORBIDDEN) & {name.partition(".")[0] for name in sys.modules})
print(json.dumps(found))
"""


def _run(site: Path) -> dict:
    program = f"FORBIDDEN, SITE = {FORBIDDEN!r}, {str(site)!r}\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("imported") == []
    for image in found.values():
        assert image["shape"] == [1, 1, 64, 64] and 1 < image["largest"] < 1000
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny_network):
    site = tmp_path_factory.mktemp("site")
    tiny_network.write(site, name="denoiser", version="999")
    parameters = {"sigma": [1.0, 0.5], "weight": [1.0]}
    tiny_network.write(site, name="recon", version="999", kind="regulariser", parameters=parameters)
    return _run(site)


def test_networks_run_in_their_chains(found):
    assert found["conventional"]["ai"] is None
    for chain, network, what in (
        ("dl", "recon", "unrolled reconstruction by recon 999"),
        ("denoise", "denoiser", "denoised by denoiser 999"),
    ):
        assert found[chain]["ai"].startswith(f"{network} 999 (")
        assert found[chain]["fallback"] is None
        assert "AI" in found[chain]["history"]
        assert found[chain]["history"][-1].startswith(what)


def test_without_weights_the_conventional_image_leaves_and_says_why(tmp_path, tiny_network):
    for name in ("denoiser", "recon"):
        model = tiny_network.write(tmp_path, name=name, version="999") / "model.onnx"
        model.write_bytes(model.read_bytes() + b"\0")
    found = _run(tmp_path)
    for chain in ("dl", "denoise"):
        assert found[chain]["ai"] is None and "AI" not in found[chain]["history"]
        assert "SHA-256" in found[chain]["fallback"]
