"""The whole conventional chain, on files of ISMRMRD's own generator and on simulated slabs.

The reference is a direct Fourier transform in double precision with root sum of squares.
"""

import shutil
import subprocess
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from bench.data import measurement
from gadgets.conventional import conventional
from gadgets.noise import RECEIVER_BANDWIDTH, NoiseState
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage, ReadoutBlock, Text

GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"
COILS = 6


def generate(folder: Path, *options: str) -> tuple[str, list[ismrmrd.Acquisition]]:
    """Make a file with ISMRMRD's generator; return its header and its readouts."""
    if shutil.which(GENERATOR) is None:
        pytest.skip(f"{GENERATOR} (Debian: ismrmrd-tools) is not installed")
    path = folder / "shepp_logan.h5"
    path.unlink(missing_ok=True)  # the generator would append
    command = [GENERATOR, "-m", "128", "-c", str(COILS), "-o", str(path), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    dataset = ismrmrd.Dataset(str(path), create_if_needed=False)
    try:
        xml = dataset.read_xml_header().decode()
        count = dataset.number_of_acquisitions()
        return xml, [dataset.read_acquisition(n) for n in range(count)]
    finally:
        dataset.close()


def blocks(readouts: list[ismrmrd.Acquisition], size: int = 50) -> list[ReadoutBlock]:
    """Readouts as they come from the wire: blocks of one shape."""
    result = []
    for start in range(0, len(readouts), size):
        part = readouts[start : start + size]
        raw = b"".join(bytes(a.getHead()) for a in part)
        headers = np.frombuffer(raw, ACQUISITION_HEADER).copy()
        trajectory = np.stack([a.traj for a in part]) if part[0].traj.size else None
        arrival = np.arange(start, start + len(part), dtype=np.int64)
        result.append(ReadoutBlock(headers, np.stack([a.data for a in part]), trajectory, arrival))
    return result


def reference(readouts: list[ismrmrd.Acquisition], ny: int = 128) -> np.ndarray:
    """Root sum of squares of fully sampled readouts, float64 (y, x), oversampling removed."""
    kspace = np.zeros((readouts[0].data.shape[0], ny, readouts[0].data.shape[1]), np.complex128)
    for readout in readouts:
        kspace[:, readout.idx.kspace_encode_step_1] = readout.data
    images = np.fft.ifftshift(kspace, axes=(1, 2))
    images = np.fft.fftshift(np.fft.ifft2(images, norm="ortho"), axes=(1, 2))
    nx = images.shape[2]
    return np.sqrt(np.sum(np.abs(images) ** 2, axis=0))[:, nx // 4 : nx // 4 + nx // 2]


def images_of(items) -> list[ImageMessage]:
    return [item for item in items if isinstance(item, ImageMessage)]


def values(message: ImageMessage) -> np.ndarray:
    return message.data[0] * float(parse_meta(message.attributes)["RescaleSlope"])


def error(image: np.ndarray, truth: np.ndarray) -> float:
    """Normalised root mean square error, with the scale that fits best."""
    scale = np.vdot(image, truth) / np.vdot(image, image)
    return float(np.linalg.norm(scale * image - truth) / np.linalg.norm(truth))


@pytest.mark.peers
def test_full_sampling_with_repetitions_and_oversampling(tmp_path):
    xml, readouts = generate(tmp_path, "-r", "3", "-n", "0.0005", "-O", "2")
    found = images_of(conventional(parse_header(xml), pixel_type="float32")(iter(blocks(readouts))))
    assert [int(m.header["repetition"]) for m in found] == [0, 1, 2]
    assert [int(m.header["image_index"]) for m in found] == [1, 2, 3]
    for repetition, message in enumerate(found):
        truth = reference(readouts[repetition * 128 : repetition * 128 + 128])
        assert message.data.shape == (1, 1, 128, 128)
        assert error(message.data[0, 0], truth) < 0.01
        meta = parse_meta(message.attributes)
        assert (meta["BoresideComplete"], meta["BoresideReadouts"]) == ("1", "128")
        assert meta["BoresideSNRUnits"] == "0"


@pytest.mark.peers
def test_pixels_of_16_bits_are_as_good(tmp_path):
    xml, readouts = generate(tmp_path, "-n", "0.0005")
    (message,) = images_of(conventional(parse_header(xml))(iter(blocks(readouts))))
    assert message.data.dtype == np.uint16
    assert error(message.data[0, 0].astype(float), reference(readouts)) < 0.01


@pytest.mark.peers
def test_noise_scan_puts_images_into_snr_units(tmp_path):
    """The generator's noise scan has all of its noise, whatever the missing header field says."""
    sigma = 0.02
    xml, readouts = generate(tmp_path, "-C", "-n", str(sigma))
    items = list(conventional(parse_header(xml), pixel_type="float32")(iter(blocks(readouts))))
    (state,) = (item for item in items if isinstance(item, NoiseState))
    assert state.whitened and state.samples == 256
    (message,) = images_of(items)
    assert parse_meta(message.attributes)["BoresideSNRUnits"] == "1"
    truth = reference(readouts[1:]) / sigma * np.sqrt(RECEIVER_BANDWIDTH)
    inside = truth > 0.3 * truth.max()
    ratio = message.data[0, 0][inside] / truth[inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.05)


@pytest.mark.peers
@pytest.mark.parametrize("method", ["sense", "grappa"])
def test_acceleration_2_with_calibration_lines(tmp_path, method):
    xml, full = generate(tmp_path, "-n", "0.0005")
    truth = reference(full)
    xml, readouts = generate(tmp_path, "-a", "2", "-w", "32", "-n", "0.0005")
    chain = conventional(parse_header(xml), method=method, pixel_type="float32")
    found = images_of(chain(iter(blocks(readouts))))
    assert [int(m.header["repetition"]) for m in found] == [0, 1]
    for message in found:
        meta = parse_meta(message.attributes)
        assert meta["BoresideComplete"] == "1"
        assert method.upper() in str(meta["ImageProcessingHistory"])
        assert error(message.data[0, 0], truth) < 0.03


@pytest.mark.peers
def test_coordinates_of_a_cartesian_scan_do_no_harm(tmp_path):
    xml, readouts = generate(tmp_path, "-k", "-n", "0.0005")
    (message,) = images_of(conventional(parse_header(xml))(iter(blocks(readouts))))
    assert error(message.data[0, 0].astype(float), reference(readouts)) < 0.01


@pytest.mark.parametrize(("matrix", "acceleration"), [((64, 64, 1), 2), ((48, 64, 12), 2)])
def test_maps_and_snr_units_of_simulated_scans(matrix, acceleration):
    scan = measurement(matrix, coils=8, acceleration=acceleration, snr=50)
    gadget = conventional(parse_header(scan.header.xml), maps=("g-factor", "snr"))
    found = images_of(gadget(iter([scan.noise, scan.readouts[:100], scan.readouts[100:]])))
    assert [int(m.header["image_series_index"]) for m in found] == [1, 2, 3]
    image, g, snr = found
    assert image.data.shape == g.data.shape == snr.data.shape == (1, *matrix[::-1])
    truth = scan.truth
    inside = truth > 0.2 * truth.max()
    assert np.median(values(image)[inside] / truth[inside]) == pytest.approx(1, abs=0.03)
    assert 0.9 < np.median(g.data[0][inside]) < 1.6


def test_other_items_pass_untouched():
    scan = measurement((32, 32, 1), coils=4)
    gadget = conventional(parse_header(scan.header.xml))
    (picture,) = images_of(gadget(iter([scan.noise, scan.readouts])))
    items = [Text("a"), picture, Text("b")]
    assert list(gadget(iter(items))) == items
