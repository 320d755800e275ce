"""A step as a receiver sees it: header, counters, flags, time stamps, samples and their scale."""

from dataclasses import replace

import numpy as np
import pytest

from protocols.header import encodings, parse_header
from protocols.mrd_types import NOT_IMAGING, AcquisitionFlag
from scanner.exam import dixon_step, lumbar_exam, quick_exam
from scanner.noise import RELATIVE_BANDWIDTH
from scanner.sequence import Geometry, NoiseScan, Protocol, Sampling, TurboSpinEcho
from scanner.step import centred_ifft, make_scanner

SMALL = Geometry(
    (0.0, 5.0, 10.0), (0, 1, 0), (0, 0, -1), (420.0, 420.0), (64, 64), 3, 4.0, 6.0
)  # fmt: skip
T2 = TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0)


@pytest.fixture
def run(body):
    """Run a small turbo spin echo: step, headers and samples without the noise scan."""

    def scan(noise_level=1.0, geometry=SMALL, **sampling):
        scanner = make_scanner(body, rows=4, columns=1, noise_level=noise_level)
        protocol = Protocol("t2", T2, geometry, Sampling(**sampling), NoiseScan(256, 256, 5.0))
        step = scanner.exam_steps([protocol])[0]
        blocks = [b for b in step.readouts() if b.samples.shape[-1] != 256]
        headers = np.concatenate([block.headers for block in blocks])
        return step, headers, np.concatenate([block.samples for block in blocks])

    return scan


def having(headers, flag):
    return (headers["flags"] & np.uint64(int(flag))) != 0


def test_undersampled_lines_are_those_of_full_k_space(run):
    step, headers, samples = run(noise_level=1e-6, acceleration=(3, 1), calibration=(12, 0))
    full = np.stack([image[0, :, 0] for image in step.kspace()])  # slice, coil, ky, kx
    idx = headers["idx"]
    expected = full[idx["slice"], :, idx["kspace_encode_step_1"]]
    np.testing.assert_allclose(samples, expected, atol=1e-4 * np.abs(full).max())


def test_noise_scan_comes_first_with_its_own_dwell_time_and_covariance(body):
    step = quick_exam(body)[1]
    blocks = list(step.readouts(block_size=50))
    noise = [b for b in blocks if having(b.headers, AcquisitionFlag.IS_NOISE_MEASUREMENT).all()]
    assert [len(b) for b in noise] == [50, 14] and blocks[:2] == noise
    assert set(noise[0].headers["sample_time_us"]) == {5.0}
    samples = np.moveaxis(np.concatenate([b.samples for b in noise]), 1, 0).reshape(6, -1)
    covariance = samples @ samples.conj().T / samples.shape[1]
    expected = step.scanner.covariance * RELATIVE_BANDWIDTH / 5.0
    assert np.linalg.norm(covariance - expected) < 0.05 * np.linalg.norm(expected)


def test_truth_is_what_full_sampling_gives_in_snr_units(run):
    step, headers, samples = run()
    noise = np.concatenate([b.samples for b in step.readouts() if b.samples.shape[-1] == 256])
    flat = np.moveaxis(noise, 1, 0).reshape(4, -1)
    covariance = flat @ flat.conj().T / flat.shape[1]
    # Scale of the whitener as in Kellman and McVeigh (2005) and Gadgetron's NoiseAdjustGadget.
    ratio = headers["sample_time_us"][0] / 5.0 * RELATIVE_BANDWIDTH
    whitener = np.linalg.inv(np.linalg.cholesky(covariance)) * np.sqrt(2 * ratio)
    kspace = np.zeros((3, 4, 64, 128), complex)
    idx = headers["idx"]
    kspace[idx["slice"], :, idx["kspace_encode_step_1"]] = whitener @ samples
    images = centred_ifft(centred_ifft(kspace, 2), 3)[..., 32:96]
    truth = step.truth()
    combined = np.sqrt(np.sum(np.abs(images) ** 2, axis=1))
    bright = truth > 30
    np.testing.assert_allclose(np.mean(combined[bright] / truth[bright]), 1.0, atol=0.01)
    # Where the measured covariance's own error, in proportion to the signal, is small.
    difference = (combined - truth)[(truth > 20) & (truth < 60)]
    np.testing.assert_allclose(difference.std(), 1.0, atol=0.1)


def test_vertebrae_have_the_signal_to_noise_ratio_of_a_clinical_scan(body):
    step = lumbar_exam(body)[1]
    step = replace(step, protocol=replace(step.protocol, geometry=replace(
        step.protocol.geometry, slices=1)))  # fmt: skip
    truth = step.truth()[0]
    rows, columns = 160 - round(8 * 320 / 300), 160 + round(15 * 320 / 300)
    level = truth[rows - 5 : rows + 5, columns - 5 : columns + 5].mean()
    assert 10 < level < 60


def test_every_image_ends_exactly_once(run):
    _, headers, _ = run(acceleration=(2, 1), calibration=(12, 0), repetitions=2, averages=2)
    idx = headers["idx"]
    for name, keys in {
        "SLICE": ("slice", "repetition"),
        "REPETITION": ("repetition",),
        "AVERAGE": ("slice", "repetition", "average"),
        "CONTRAST": ("slice", "repetition", "contrast"),
        "ENCODE_STEP1": ("slice", "repetition", "average"),
        "SEGMENT": ("slice", "repetition", "average", "segment"),
    }.items():
        values = np.stack([idx[key] for key in keys], 1)
        for end, order in (("FIRST", 1), ("LAST", -1)):
            marked = having(headers, AcquisitionFlag[f"{end}_IN_{name}"])
            _, expected = np.unique(values[::order], axis=0, return_index=True)
            expected = expected if order == 1 else len(headers) - 1 - expected
            assert set(np.flatnonzero(marked)) == set(expected), (end, name)
    assert list(np.flatnonzero(having(headers, AcquisitionFlag.LAST_IN_MEASUREMENT))) == [
        len(headers) - 1
    ]


def test_calibration_flags_tell_lines_on_the_grid_from_those_between(run):
    _, headers, _ = run(acceleration=(4, 1), calibration=(12, 0))
    line = headers["idx"]["kspace_encode_step_1"]
    calibration = (line >= 26) & (line < 38)
    on_grid = line % 4 == 0
    both = having(headers, AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)
    only = having(headers, AcquisitionFlag.IS_PARALLEL_CALIBRATION)
    np.testing.assert_array_equal(both, calibration & on_grid)
    np.testing.assert_array_equal(only, calibration & ~on_grid)
    imaging = (headers["flags"] & np.uint64(int(NOT_IMAGING))) == 0
    assert set(line[imaging]) == set(range(0, 64, 4))


def test_separate_reference_lines_end_no_image(run):
    _, headers, _ = run(acceleration=(2, 1), calibration=(12, 0), calibration_mode="separate")
    reference = having(headers, AcquisitionFlag.IS_PARALLEL_CALIBRATION)
    assert reference.sum() == 3 * 12
    assert not having(headers[reference], AcquisitionFlag.LAST_IN_SLICE).any()
    assert not having(headers, AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING).any()


def test_partial_fourier_moves_the_centre_in_counters_and_limits(run):
    step, headers, samples = run(phase_partial_fourier=0.75, readout_partial_fourier=0.75)
    encoding = encodings(parse_header(step.header_xml))[0]
    limit = encoding.limits["kspace_encoding_step_1"]
    assert (limit.minimum, limit.maximum, limit.center) == (0, 47, 16)
    assert set(headers["idx"]["kspace_encode_step_1"]) == set(range(48))
    assert set(headers["idx"]["user"][:, 5]) == {16}
    assert set(headers["number_of_samples"]) == {96} and samples.shape[-1] == 96
    assert set(headers["center_sample"]) == {32}
    strongest = np.abs(samples[headers["idx"]["kspace_encode_step_1"] == 16]).sum(axis=(0, 1))
    assert abs(int(np.argmax(strongest)) - 32) <= 1


def test_geometry_of_readouts_is_that_of_their_slice(run):
    _, headers, _ = run(acceleration=(2, 1), calibration=(12, 0))
    for number, x in enumerate((10.0, 0.0, -10.0)):
        of_slice = headers[headers["idx"]["slice"] == number]
        np.testing.assert_allclose(of_slice["position"], [[x, 5.0, 10.0]] * len(of_slice))
    np.testing.assert_allclose(headers["slice_dir"][0], [-1.0, 0.0, 0.0])
    np.testing.assert_allclose(headers["read_dir"][0], [0.0, 1.0, 0.0])


def test_counters_run_and_time_stamps_follow_the_clock(body):
    first, second = quick_exam(body)[:2]
    headers = np.concatenate([block.headers for block in second.readouts()])
    np.testing.assert_array_equal(headers["scan_counter"], 1 + np.arange(len(headers)))
    stamps = headers["acquisition_time_stamp"].astype(int)
    assert np.all(np.diff(stamps) >= 0)
    seconds = (stamps[-1] - stamps[0]) * 2.5e-3
    assert second.duration_s - 3.6 < seconds <= second.duration_s
    earlier = next(first.readouts()).headers
    assert stamps[0] * 2.5e-3 >= earlier["acquisition_time_stamp"][0] * 2.5e-3 + first.duration_s
    assert set(headers["measurement_uid"]) == {2}
    assert set(headers["channel_mask"][:, 0]) == {0b111111}


def test_the_same_exam_gives_the_same_readouts(body):
    one, two = (next(quick_exam(body, exam="a")[0].readouts()).samples for _ in range(2))
    other = next(quick_exam(body, exam="b")[0].readouts()).samples
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_header_describes_the_lumbar_protocol(body):
    step = lumbar_exam(body)[2]
    header = parse_header(step.header_xml)
    encoding = encodings(header)[0]
    assert encoding.encoded_matrix == (640, 448, 1)
    assert encoding.encoded_fov == (600.0, 420.0, 4.0)
    assert encoding.recon_matrix == (320, 320, 1)
    assert encoding.recon_fov == (300.0, 300.0, 4.0)
    assert encoding.acceleration == (4, 1)
    assert encoding.limits["slice"].maximum == 14
    assert header.encoding[0].parallelImaging.calibrationMode.value == "embedded"
    assert header.sequenceParameters.TI == [250.0]
    assert header.acquisitionSystemInformation.receiverChannels == 12
    assert header.acquisitionSystemInformation.relativeReceiverNoiseBandwidth == 0.793
    assert header.measurementInformation.patientPosition.value == "HFS"
    assert header.subjectInformation is None


def test_phase_oversampling_and_resolution_do_not_change_the_image(run):
    plain, *_ = run(noise_level=1e-6)
    coarse = replace(SMALL, phase_oversampling=0.5, phase_resolution=0.75)
    zero_filled, *_ = run(noise_level=1e-6, geometry=coarse)
    assert zero_filled.protocol.geometry.encoded_matrix == (128, 72, 1)
    assert zero_filled.truth().shape == plain.truth().shape
    one, other = plain.truth(), zero_filled.truth()
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
    # Averaging over more lines, and over larger voxels, gives more signal for the same noise.
    gain = np.sqrt(72 / 64) / 0.75
    assert other.sum() == pytest.approx(gain * one.sum(), rel=0.03)


def test_a_dixon_step_has_one_image_for_each_echo(body):
    step = dixon_step(body, echoes=2)
    step = replace(step, protocol=replace(step.protocol, geometry=replace(
        step.protocol.geometry, matrix=(32, 32), slices=8)))  # fmt: skip
    headers = np.concatenate([block.headers for block in step.readouts()][2:])
    assert set(headers["idx"]["contrast"]) == {0, 1}
    assert having(headers, AcquisitionFlag.LAST_IN_SLICE).sum() == 1
    assert having(headers, AcquisitionFlag.LAST_IN_CONTRAST).sum() == 2
    opposed, in_phase = step.truth(0), step.truth(1)
    assert opposed.shape == (8, 32, 32)
    assert opposed.sum() < in_phase.sum()
    limits = encodings(parse_header(step.header_xml))[0].limits
    assert limits["kspace_encoding_step_2"].maximum == 7 and limits["contrast"].maximum == 1
