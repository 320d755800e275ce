"""Buckets and recon data become the readouts that Gadgetron made them of."""

import numpy as np
import pytest

from gadgets.buckets import (
    BucketError,
    bucket_blocks,
    from_buckets,
    header_as_acquired,
    recon_data_blocks,
)
from gadgets.conventional import conventional
from gadgets.fft import fftc
from protocols.header import encodings, parse_header
from protocols.mrd_gadgetron import (
    SAMPLING_DESCRIPTION,
    Bucket,
    Readout,
    ReconBit,
    ReconBuffer,
    ReconData,
)
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    WAVEFORM_HEADER,
    AcquisitionFlag,
    ImageMessage,
    ReadoutBlock,
    Text,
    Waveform,
)

CALIBRATION = AcquisitionFlag.IS_PARALLEL_CALIBRATION
BOTH = AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING
LAST = AcquisitionFlag.LAST_IN_SLICE
rng = np.random.default_rng(5)


def noise(*shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def header(counter: int = 0, flags: int = 0, samples: int = 8, **idx: int) -> np.void:
    result = np.zeros((), ACQUISITION_HEADER)
    result["scan_counter"], result["flags"] = counter, flags
    result["number_of_samples"], result["active_channels"] = samples, 2
    for name, value in idx.items():
        result["idx"][name] = value
    return result[()]


def counters(blocks) -> list[int]:
    return [int(n) for block in blocks for n in block.headers["scan_counter"]]


class TestBucket:
    def test_readouts_of_one_shape_travel_in_one_block(self):
        shapes = [8, 8, 6, 8]
        readouts = tuple(Readout(header(k), noise(2, n)) for k, n in enumerate(shapes))
        blocks = list(bucket_blocks(Bucket(readouts)))
        assert [b.samples.shape for b in blocks] == [(2, 2, 8), (1, 2, 6), (1, 2, 8)]
        assert counters(blocks) == [0, 1, 2, 3]
        np.testing.assert_array_equal(blocks[0].samples[1], readouts[1].samples)
        assert all(len(b.arrival_ns) == len(b) for b in blocks)

    def test_lines_for_calibration_and_imaging_come_once_and_pure_calibration_first(self):
        plain = Readout(header(1), noise(2, 8))
        both = Readout(header(2, BOTH), noise(2, 8))
        only = Readout(header(3, CALIBRATION), noise(2, 8))
        bucket = Bucket(data=(plain, both), reference=(both, only))
        assert counters(bucket_blocks(bucket)) == [3, 1, 2]

    def test_trajectories_stay_with_their_readouts(self):
        path = rng.standard_normal((8, 3)).astype(np.float32)
        readouts = Readout(header(), noise(2, 8), path), Readout(header(), noise(2, 8))
        with_path, without = bucket_blocks(Bucket(readouts))
        np.testing.assert_array_equal(with_path.trajectory[0], path)
        assert without.trajectory is None

    def test_waveforms_follow_and_other_items_pass(self):
        wave = Waveform(np.zeros((), WAVEFORM_HEADER)[()], np.zeros((1, 2), np.uint32))
        text = Text("x")
        bucket = Bucket((Readout(header(), noise(2, 8)),), waveforms=(wave,))
        block, *rest = from_buckets(iter([bucket, text]))
        assert isinstance(block, ReadoutBlock)
        assert rest == [wave, text]


def sampling(first: int = 0, center: int = 4, last: int = 7) -> np.void:
    result = np.zeros((), SAMPLING_DESCRIPTION)
    result["limits"][0] = first, center, last
    return result[()]


def buffer(lines=(0, 2, 3), flags: int = 0, slices: int = 2, **kwargs) -> ReconBuffer:
    """Four phase-encode lines of ``slices`` slices, of which ``lines`` were acquired."""
    data = np.zeros((8, 4, 1, 2, 1, 1, slices), np.complex64)
    headers = np.zeros((4, 1, 1, 1, slices), ACQUISITION_HEADER)
    for number in range(slices):
        for line in lines:
            data[:, line, 0, :, 0, 0, number] = noise(8, 2)
            # Interleaved: the last line was acquired first.
            counter = 10 * (3 - line) + number
            headers[line, 0, 0, 0, number] = header(
                counter, flags, kspace_encode_step_1=line, slice=number
            )
    return ReconBuffer(data, headers, kwargs.pop("sampling", sampling()), **kwargs)


class TestReconData:
    def test_acquired_lines_come_in_the_order_of_acquisition(self):
        sent = buffer()
        (block,) = recon_data_blocks(ReconData((ReconBit(sent),)))
        assert counters([block]) == [0, 1, 10, 11, 30, 31]
        for head, samples in zip(block.headers, block.samples, strict=True):
            line, number = head["idx"]["kspace_encode_step_1"], head["idx"]["slice"]
            np.testing.assert_array_equal(samples, sent.data[:, line, 0, :, 0, 0, number].T)

    def test_the_last_readout_of_each_slice_is_marked_and_no_other(self):
        (block,) = recon_data_blocks(ReconData((ReconBit(buffer(flags=LAST)),)))
        marked = block.headers["flags"] & np.uint64(LAST) != 0
        assert marked.tolist() == [False, False, False, False, True, True]

    def test_reference_lines_come_first_as_calibration_unless_they_are_imaging_too(self):
        bit = ReconBit(buffer(slices=1), buffer(slices=1, lines=(1,)))
        reference, data = recon_data_blocks(ReconData((bit,)))
        assert (reference.headers["flags"] & np.uint64(CALIBRATION)).all()
        assert not (data.headers["flags"] & np.uint64(CALIBRATION)).any()
        embedded = ReconBit(buffer(slices=1), buffer(slices=1, flags=BOTH))
        assert len(list(recon_data_blocks(ReconData((embedded,))))) == 1

    def test_samples_that_upstream_padded_are_marked_as_discarded(self):
        padded = buffer(sampling=sampling(first=2, center=4, last=7))
        (block,) = recon_data_blocks(ReconData((ReconBit(padded),)))
        head = block.headers[0]
        assert (head["discard_pre"], head["discard_post"], head["center_sample"]) == (2, 0, 4)

    @pytest.mark.parametrize(
        ("limits", "center"), [((2, 6, 9), 4), ((0, 0, 0), 4)], ids=["cut off", "not stated"]
    )
    def test_limits_that_do_not_fit_the_samples_discard_nothing(self, limits, center):
        (block,) = recon_data_blocks(ReconData((ReconBit(buffer(sampling=sampling(*limits))),)))
        head = block.headers[0]
        assert (head["discard_pre"], head["discard_post"]) == (0, 0)
        assert head["center_sample"] == center

    def test_trajectories_go_along(self):
        path = rng.standard_normal((3, 8, 4, 1, 1, 1, 2)).astype(np.float32)
        (block,) = recon_data_blocks(ReconData((ReconBit(buffer(trajectory=path)),)))
        assert block.trajectory.shape == (6, 8, 3)
        first = block.headers[0]["idx"]  # line 3 of slice 0
        np.testing.assert_array_equal(
            block.trajectory[0], path[:, :, first["kspace_encode_step_1"], 0, 0, 0, 0].T
        )

    def test_an_encoding_space_without_data_gives_nothing(self):
        nothing = ReconBuffer(
            np.zeros(0, np.complex64), np.zeros(0, ACQUISITION_HEADER), sampling()
        )
        assert list(recon_data_blocks(ReconData((ReconBit(nothing, nothing),)))) == []

    def test_headers_that_do_not_match_the_lines_are_named(self):
        sent = buffer()
        wrong = ReconBuffer(sent.data, sent.headers[:3], sent.sampling)
        with pytest.raises(BucketError, match="expected headers"):
            list(recon_data_blocks(ReconData((ReconBit(wrong),))))


def mrd_header(encoded: int, recon: int, fov: float = 640.0):
    return parse_header(
        f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
        <H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions><encoding>
        <encodedSpace><matrixSize><x>{encoded}</x><y>4</y><z>1</z></matrixSize>
        <fieldOfView_mm><x>{fov}</x><y>9</y><z>9</z></fieldOfView_mm></encodedSpace>
        <reconSpace><matrixSize><x>{recon}</x><y>4</y><z>1</z></matrixSize>
        <fieldOfView_mm><x>320</x><y>9</y><z>9</z></fieldOfView_mm></reconSpace>
        <encodingLimits/><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""
    )


@pytest.mark.parametrize(
    ("samples", "center", "encoded"),
    [
        (512, 256, 512),
        (256, 128, 256),
        (400, 144, 512),  # asymmetric echo, oversampled
        (200, 72, 256),  # the same, oversampling removed
        (256, 256, 256),  # a centre at the end is Gadgetron's way to say nothing
    ],
)
def test_the_readout_tells_whether_its_oversampling_was_removed(samples, center, encoded):
    head = np.zeros(1, ACQUISITION_HEADER)
    head["number_of_samples"], head["center_sample"] = samples, center
    block = ReadoutBlock(head, np.zeros((1, 1, samples), np.complex64))
    original = mrd_header(512, 256)
    (facts,) = encodings(header_as_acquired(original, block))
    assert facts.encoded_matrix[0] == encoded
    assert facts.encoded_fov[0] == 640 * encoded / 512
    assert encodings(original)[0].encoded_matrix[0] == 512


def test_interpolation_in_the_recon_space_is_not_taken_for_removed_oversampling():
    head = np.zeros(1, ACQUISITION_HEADER)
    head["number_of_samples"], head["center_sample"] = 128, 64
    block = ReadoutBlock(head, np.zeros((1, 1, 128), np.complex64))
    (facts,) = encodings(header_as_acquired(mrd_header(256, 512), block))
    assert facts.encoded_matrix[0] == 128
    (same,) = encodings(header_as_acquired(mrd_header(128, 512, fov=320), block))
    assert same.encoded_matrix[0] == 128


def test_noise_readouts_tell_nothing():
    head = np.zeros(1, ACQUISITION_HEADER)
    head["flags"], head["number_of_samples"] = AcquisitionFlag.IS_NOISE_MEASUREMENT, 256
    original = mrd_header(512, 256)
    assert header_as_acquired(original, ReadoutBlock(head, np.zeros((1, 1, 256)))) is original


def accelerated_scan() -> tuple[str, ReadoutBlock]:
    """Every second of 64 lines, the middle 24 whole and flagged; six coils around two discs."""
    n = 64
    z = np.linspace(-1, 1, n)
    x, y = z[None, :], z[:, None]
    body = ((x**2 + y**2) < 0.6) + 0.5 * (((x - 0.2) ** 2 + (y + 0.3) ** 2) < 0.05)
    angles = np.arange(6) * np.pi / 3
    coils = [np.exp(-((x - np.cos(a)) ** 2) - (y - np.sin(a)) ** 2 + 1j * a) for a in angles]
    kspace = 1e4 * fftc((np.stack(coils) * body).astype(np.complex64), (1, 2))
    lines = np.array([k for k in range(n) if k % 2 == 0 or 20 <= k < 44])
    heads = np.zeros(len(lines), ACQUISITION_HEADER)
    heads["version"], heads["number_of_samples"], heads["active_channels"] = 1, n, 6
    heads["center_sample"], heads["scan_counter"] = n // 2, np.arange(len(lines))
    heads["idx"]["kspace_encode_step_1"] = lines
    heads["read_dir"][:, 0] = heads["phase_dir"][:, 1] = heads["slice_dir"][:, 2] = 1
    heads["flags"][(lines >= 20) & (lines < 44)] = BOTH
    heads["flags"][-1] |= np.uint64(LAST)
    block = ReadoutBlock(
        heads, kspace[:, lines].swapaxes(0, 1).copy(), None, np.zeros(len(lines), np.int64)
    )
    text = f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
        <H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions><encoding>
        <encodedSpace><matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize>
        <fieldOfView_mm><x>300</x><y>300</y><z>4</z></fieldOfView_mm></encodedSpace>
        <reconSpace><matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize>
        <fieldOfView_mm><x>300</x><y>300</y><z>4</z></fieldOfView_mm></reconSpace>
        <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{n - 1}</maximum>
        <center>{n // 2}</center></kspace_encoding_step_1></encodingLimits>
        <trajectory>cartesian</trajectory><parallelImaging><accelerationFactor>
        <kspace_encoding_step_1>2</kspace_encoding_step_1>
        <kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>
        <calibrationMode>embedded</calibrationMode></parallelImaging></encoding></ismrmrdHeader>"""
    return text, block


def as_bucket(block: ReadoutBlock) -> Bucket:
    readouts = [Readout(h, s) for h, s in zip(block.headers, block.samples, strict=True)]
    reference = [r for r in readouts if int(r.header["flags"]) & BOTH]
    return Bucket(tuple(readouts), tuple(reference))


def as_recon_data(block: ReadoutBlock) -> ReconData:
    def buffered(part: ReadoutBlock) -> ReconBuffer:
        data = np.zeros((64, 64, 1, 6, 1, 1, 1), np.complex64)
        heads = np.zeros((64, 1, 1, 1, 1), ACQUISITION_HEADER)
        lines = part.headers["idx"]["kspace_encode_step_1"]
        data[:, lines, 0, :, 0, 0, 0] = part.samples.swapaxes(1, 2)
        heads[lines, 0, 0, 0, 0] = part.headers
        return ReconBuffer(data, heads, sampling(0, 32, 63))

    embedded = block[block.headers["flags"] & np.uint64(BOTH) != 0]
    return ReconData((ReconBit(buffered(block), buffered(embedded)),))


@pytest.mark.parametrize("method", ["sense", "grappa"])
@pytest.mark.parametrize("travel", [as_bucket, as_recon_data])
def test_an_accelerated_scan_gives_the_same_image_however_it_travels(travel, method):
    text, block = accelerated_scan()

    def reconstruct(item) -> np.ndarray:
        gadget = conventional(parse_header(text), method=method, pixel_type="float32")
        (image,) = (i for i in gadget(from_buckets(iter([item]))) if isinstance(i, ImageMessage))
        return image.data

    np.testing.assert_allclose(reconstruct(travel(block)), reconstruct(block), rtol=1e-5)
