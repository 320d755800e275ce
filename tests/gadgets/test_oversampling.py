"""The readout transform against an explicit DFT matrix in double precision."""

import numpy as np
import pytest

from gadgets.oversampling import NotCartesian, TransformReadout, cropped_length
from protocols.header import parse_header
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, ReadoutBlock, Text

RNG = np.random.default_rng(3)
NX, RECON, COILS = 48, 24, 3


def mrd_header(
    nx: int = NX, recon: int = RECON, fov: tuple[float, float] = (600, 300), kind: str = "cartesian"
):
    space = "<matrixSize><x>{}</x><y>8</y><z>1</z></matrixSize>"
    space += "<fieldOfView_mm><x>{}</x><y>300</y><z>5</z></fieldOfView_mm>"
    encoding = f"""<encoding><encodedSpace>{space.format(nx, fov[0])}</encodedSpace>
        <reconSpace>{space.format(recon, fov[1])}</reconSpace><encodingLimits/>
        <trajectory>{kind}</trajectory></encoding>"""
    return parse_header(
        f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
        <H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz></experimentalConditions>
        {encoding}{encoding}</ismrmrdHeader>"""
    )


def block(samples: np.ndarray, center: int | None = None, **fields: int) -> ReadoutBlock:
    headers = np.zeros(len(samples), ACQUISITION_HEADER)
    headers["center_sample"] = samples.shape[-1] // 2 if center is None else center
    for name, value in fields.items():
        headers[name] = value
    return ReadoutBlock(headers, samples.astype(np.complex64), None, np.arange(len(samples)))


def complex_noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


def dft(k: np.ndarray, nx: int = NX, recon: int = RECON) -> np.ndarray:
    """Matrix (x, sample): image at ``recon`` pixels around the origin of samples at ``k``."""
    x = np.arange(recon) - recon // 2
    return np.exp(2j * np.pi * np.outer(x, k) / nx) / np.sqrt(nx)


def run(*items, header=None):
    return list(TransformReadout(header or mrd_header())(iter(items)))


def assert_close(got, expected) -> None:
    assert got.dtype == np.complex64
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("nx", "recon"), [(48, 24), (50, 25), (45, 15), (32, 32)])
def test_full_readout(nx, recon):
    samples = complex_noise(4, COILS, nx)
    header = mrd_header(nx, recon, (nx * 10.0, recon * 10.0))
    (out,) = run(block(samples), header=header)
    assert_close(out.samples, samples @ dft(np.arange(nx) - nx // 2, nx, recon).T)
    assert out.readout_mask.shape == (4, nx) and out.readout_mask.all()
    assert np.array_equal(out.arrival_ns, np.arange(4))


def test_noise_keeps_its_size():
    (out,) = run(block(complex_noise(300, COILS, NX)))
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("samples", [28, 36, 47])
@pytest.mark.parametrize("early", [True, False])
def test_asymmetric_echo_has_its_centre_at_the_origin(samples, early):
    """The short side is before the echo (echo early) or after it."""
    center = samples - NX // 2 if early else NX // 2
    values = complex_noise(2, COILS, samples)
    (out,) = run(block(values, center))
    k = np.arange(samples) - center
    assert_close(out.samples, values @ dft(k).T)
    assert np.array_equal(np.flatnonzero(out.readout_mask[0]), k + NX // 2)


def test_discarded_samples_count_as_not_acquired():
    values = complex_noise(2, COILS, NX)
    (out,) = run(block(values, discard_pre=5, discard_post=3))
    inside = np.arange(5, NX - 3)
    assert_close(out.samples, values[..., inside] @ dft(inside - NX // 2).T)
    assert np.array_equal(np.flatnonzero(out.readout_mask[1]), inside)


def test_reversed_readouts_are_turned_round():
    values = complex_noise(4, COILS, NX)
    stored = values.copy()
    stored[1::2] = stored[1::2, :, ::-1]
    mixed = block(stored)
    mixed.headers["flags"][1::2] = int(AcquisitionFlag.IS_REVERSE)
    (out,) = run(mixed)
    assert_close(out.samples, values @ dft(np.arange(NX) - NX // 2).T)


def test_discarded_samples_of_reversed_readouts_count_as_stored():
    stored = complex_noise(1, COILS, NX)
    (out,) = run(block(stored, discard_pre=6, flags=int(AcquisitionFlag.IS_REVERSE)))
    inside = np.arange(NX - 6)
    assert_close(out.samples, stored[..., ::-1][..., inside] @ dft(inside - NX // 2).T)


def test_readouts_longer_than_the_encoded_matrix_are_cut_in_kspace():
    values = complex_noise(1, COILS, NX + 10)
    (out,) = run(block(values))
    assert_close(out.samples, values[..., 5:-5] @ dft(np.arange(NX) - NX // 2).T)


def test_centre_sample_that_was_not_set():
    values = complex_noise(1, COILS, NX)
    (out,) = run(block(values, 0))
    assert_close(out.samples, values @ dft(np.arange(NX) - NX // 2).T)


def test_everything_discarded_gives_zeros():
    (out,) = run(block(complex_noise(1, COILS, NX), discard_pre=40, discard_post=40))
    assert not out.samples.any() and not out.readout_mask.any()


@pytest.mark.parametrize(
    ("encoded", "encoded_fov", "recon", "recon_fov", "length"),
    [
        (512, 600.0, 256, 300.0, 256),
        (512, 500.0, 320, 250.0, 256),  # recon matrix interpolated: crop by field of view
        (640, 599.7, 320, 300.0, 320),  # rounded fields of view
        (256, 300.0, 256, 400.0, 256),  # recon field of view larger than encoded
        (256, 300.0, 512, 300.0, 256),
    ],
)
def test_crop_is_by_field_of_view(encoded, encoded_fov, recon, recon_fov, length):
    assert cropped_length(encoded, encoded_fov, recon, recon_fov) == length


def test_encoding_spaces_are_told_apart_and_unknown_ones_dropped():
    mixed = block(complex_noise(6, COILS, NX))
    mixed.headers["encoding_space_ref"] = [0, 1, 0, 7, 1, 0]
    mixed.headers["scan_counter"] = np.arange(6)
    first, second = run(mixed)
    assert first.headers["scan_counter"].tolist() == [0, 2, 5]
    assert second.headers["scan_counter"].tolist() == [1, 4]


@pytest.mark.parametrize("kind", ["radial", "spiral", "epi"])
def test_other_trajectories_are_refused_in_the_headers_terms(kind):
    with pytest.raises(NotCartesian, match=rf"encoding 0: expected .*'cartesian', got '{kind}'"):
        TransformReadout(mrd_header(kind=kind))


def test_other_items_pass():
    assert run(Text("hello")) == [Text("hello")]
