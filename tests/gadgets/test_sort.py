"""Sorting against a brute-force sorter that looks at one readout after the other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgets.frame_memory import FrameTooLarge, frame_bytes
from gadgets.items import Calibration, Frame, FrameKey
from gadgets.noise import NoiseState
from gadgets.oversampling import HybridBlock
from gadgets.sort import Sort
from protocols.header import parse_header
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, Text

COILS, NX = 2, 4
LAST_IN_SLICE = int(AcquisitionFlag.LAST_IN_SLICE)
CALIBRATION = int(AcquisitionFlag.IS_PARALLEL_CALIBRATION)
BOTH = int(AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)


def mrd_header(ny=16, nz=1, step1=None, averages=1, acceleration=(1, 1), mode="embedded"):
    """Header of two equal encodings; ``step1`` is (minimum, maximum, center), or the full range."""

    def limit(name, minimum, maximum, center):
        return (
            f"<{name}><minimum>{minimum}</minimum><maximum>{maximum}</maximum>"
            f"<center>{center}</center></{name}>"
        )

    def space(x):
        return (
            f"<matrixSize><x>{x}</x><y>{ny}</y><z>{nz}</z></matrixSize>"
            "<fieldOfView_mm><x>300</x><y>300</y><z>5</z></fieldOfView_mm>"
        )

    encoding = f"""<encoding><encodedSpace>{space(2 * NX)}</encodedSpace>
        <reconSpace>{space(NX)}</reconSpace><encodingLimits>
        {limit("kspace_encoding_step_1", *(step1 or (0, ny - 1, ny // 2)))}
        {limit("kspace_encoding_step_2", 0, nz - 1, nz // 2)}
        {limit("average", 0, averages - 1, 0)}
        </encodingLimits><trajectory>cartesian</trajectory><parallelImaging><accelerationFactor>
        <kspace_encoding_step_1>{acceleration[0]}</kspace_encoding_step_1>
        <kspace_encoding_step_2>{acceleration[1]}</kspace_encoding_step_2></accelerationFactor>
        <calibrationMode>{mode}</calibrationMode></parallelImaging></encoding>"""
    return parse_header(
        f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
        <H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz></experimentalConditions>
        {encoding}{encoding}</ismrmrdHeader>"""
    )


@dataclass
class Readouts:
    """A stream of readouts in order of arrival."""

    headers: np.ndarray
    samples: np.ndarray

    def __getitem__(self, which: Any) -> "Readouts":
        return Readouts(self.headers[which].copy(), self.samples[which].copy())

    def flag(self, which: Any, bits: int) -> "Readouts":
        self.headers["flags"][which] |= np.uint64(bits)
        return self


def scan(lines, seed=0, **counters) -> Readouts:
    """Readouts of lines, (kz, ky) counters or ky alone, with other counters as given."""
    lines = np.array([line if isinstance(line, tuple) else (0, line) for line in lines])
    headers = np.zeros(len(lines), ACQUISITION_HEADER)
    headers["idx"]["kspace_encode_step_2"] = lines[:, 0]
    headers["idx"]["kspace_encode_step_1"] = lines[:, 1]
    for name, value in counters.items():
        (headers if name == "encoding_space_ref" else headers["idx"])[name] = value
    rng = np.random.default_rng([seed, *(int(v) for v in counters.values())])
    samples = rng.standard_normal((len(lines), COILS, NX, 2), np.float32).view(np.complex64)[..., 0]
    return Readouts(headers, samples)


def join(*parts: Readouts) -> Readouts:
    return Readouts(
        np.concatenate([p.headers for p in parts]), np.concatenate([p.samples for p in parts])
    )


def run(header, *parts: Readouts, size: int | list[int] = 5, before=()) -> list:
    """Sort a stream in blocks of ``size`` readouts, or cut at the places ``size`` lists."""
    stream = join(*parts)
    count = len(stream.headers)
    cuts = list(range(size, count, size)) if isinstance(size, int) else size
    arrival = np.arange(count, dtype=np.int64) + 1000
    blocks = []
    for rows in np.split(np.arange(count), cuts):
        for space in np.unique(stream.headers["encoding_space_ref"][rows]):
            mine = rows[stream.headers["encoding_space_ref"][rows] == space]
            mask = np.ones((len(mine), 2 * NX), bool)
            blocks.append(
                HybridBlock(stream.headers[mine], stream.samples[mine], mask, arrival[mine])
            )
    return list(Sort(header)(iter([*before, *blocks])))


def frames(items) -> dict[FrameKey, Frame]:
    found = [item for item in items if isinstance(item, Frame)]
    assert len({frame.key for frame in found}) == len(found)
    return {frame.key: frame for frame in found}


def brute_force(stream: Readouts, ny: int, nz: int, shift: int = 0) -> dict:
    """Frames of a stream of imaging lines: {key: (k-space, mask)}."""
    taken: dict = {}
    for header, samples in zip(stream.headers, stream.samples):
        idx = header["idx"]
        names = ("slice", "contrast", "phase", "repetition", "set")
        key = FrameKey(int(header["encoding_space_ref"]), *(int(idx[name]) for name in names))
        line = int(idx["kspace_encode_step_2"]), int(idx["kspace_encode_step_1"]) + shift
        taken.setdefault(key, {}).setdefault(line, {}).setdefault(int(idx["average"]), samples)
    result = {}
    for key, lines in taken.items():
        kspace = np.zeros((COILS, nz, ny, NX), np.complex128)
        mask = np.zeros((nz, ny), bool)
        factor = 1 / np.sqrt(np.mean([1 / len(averages) for averages in lines.values()]))
        for (kz, ky), averages in lines.items():
            kspace[:, kz, ky] = factor * np.mean(list(averages.values()), axis=0)
            mask[kz, ky] = True
        result[key] = kspace, mask
    return result


def assert_same(items, expected) -> None:
    got = frames(items)
    assert got.keys() == expected.keys()
    for key, (kspace, mask) in expected.items():
        assert np.array_equal(got[key].mask, mask)
        assert np.allclose(got[key].kspace, kspace, atol=1e-5)
        assert got[key].kspace.dtype == np.complex64


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_order_duplication_and_loss_within_a_pass(data):
    ny, nz, averages = 8, data.draw(st.sampled_from([1, 3])), data.draw(st.sampled_from([1, 2]))
    slices = 2 if nz == 1 else 1
    lines = [(kz, ky) for kz in range(nz) for ky in range(ny)]
    random = data.draw(st.randoms(use_true_random=False))
    parts = []
    for repetition in range(2):
        for average in range(averages):
            passes = [
                scan(lines, average=average, repetition=repetition, slice=n) for n in range(slices)
            ]
            whole = join(*passes)
            order = random.sample(range(len(whole.headers)), len(whole.headers))
            order = order[random.randint(0, 2) :] + random.sample(order, 3)
            parts.append(whole[order])
        if data.draw(st.booleans()):
            number = parts[-1].headers["idx"]["slice"]
            parts[-1].flag([np.flatnonzero(number == n)[-1] for n in range(slices)], LAST_IN_SLICE)
    count = sum(len(p.headers) for p in parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=6)))
    items = run(mrd_header(ny, nz, averages=averages), *parts, size=cuts)
    assert_same(items, brute_force(join(*parts), ny, nz))


def test_a_frame_leaves_with_its_last_readout_and_tells_about_itself():
    stream = scan(range(16), slice=3)
    stream.headers["position"][8] = (1, 2, 3)
    _, _, frame, text = [
        *run(mrd_header(), stream, size=16, before=[NoiseState(whitened=True)]),
        Text("after"),
    ]
    assert frame.complete and frame.snr_units
    assert frame.n_readouts == 16 and frame.last_readout_ns == 1015
    assert frame.header["position"].tolist() == [1, 2, 3]
    assert frame.readout_mask.all() and frame.calibration is None
    assert text == Text("after")


def test_the_centre_of_an_image_without_calibration_lines_leaves_as_soon_as_it_has_come():
    header = mrd_header(ny=48)
    stream = scan(range(48))
    kinds = [type(item) for item in run(header, stream[:40], size=8)]
    assert kinds == [Calibration, Frame]
    calibration, frame = run(header, stream, size=8)
    assert calibration.key == frame.key and frame.calibration is None
    np.testing.assert_array_equal(calibration.kspace, frame.kspace[:, :, 8:40])


def order_of_leaving(header, stream: Readouts) -> list[tuple[FrameKey, int]]:
    """Frames and the number of readouts that had come when each of them left."""
    left, came = [], [0]

    def blocks():
        for n in range(len(stream.headers)):
            came[0] = n + 1
            mask = np.ones((1, 2 * NX), bool)
            one = stream[[n]]
            yield HybridBlock(one.headers, one.samples, mask, np.zeros(1, np.int64))
        came[0] = -1

    for item in Sort(header)(blocks()):
        if isinstance(item, Frame):
            left.append((item.key, came[0]))
    return left


def test_full_frames_need_no_flags():
    stream = join(scan(range(16)), scan(range(16), repetition=1))
    assert [n for _, n in order_of_leaving(mrd_header(), stream)] == [16, 32]


def test_undersampled_frames_leave_on_the_scanners_word():
    stream = join(scan(range(0, 16, 2)), scan(range(0, 16, 2), slice=1))
    stream.flag([7, 15], LAST_IN_SLICE)
    header = mrd_header(acceleration=(2, 1))
    assert [n for _, n in order_of_leaving(header, stream)] == [8, 16]
    assert all(frame.complete for frame in frames(run(header, stream)).values())


def test_where_memory_ends_the_oldest_frame_leaves_as_it_is(monkeypatch):
    """Four slices begun at once, and room for the k-space of two."""
    stream = join(*(scan(range(8), slice=n) for n in range(4)))
    room = 2 * frame_bytes(COILS, 1, 16, NX)
    monkeypatch.setattr("gadgets.sort.MOST_BYTES", room)
    left = order_of_leaving(mrd_header(), stream)
    assert [n for _, n in left] == [17, 25, -1, -1]
    assert [key.slice for key, _ in left] == [0, 1, 2, 3]


def test_an_image_beyond_the_machine_is_refused_by_name():
    header = mrd_header(ny=65535, nz=65535)
    with pytest.raises(FrameTooLarge, match="at most"):
        run(header, scan(range(4)))


def test_the_last_average_counts():
    stream = join(*(scan(range(0, 16, 2), average=n) for n in range(3)))
    stream.flag([7, 15, 23], LAST_IN_SLICE)
    header = mrd_header(averages=3, acceleration=(2, 1))
    assert [n for _, n in order_of_leaving(header, stream)] == [24]


def test_flags_before_a_missing_line_wait_for_it():
    order = [0, 2, 4, 6, 10, 12, 14, 8]
    stream = scan(order).flag(6, LAST_IN_SLICE)
    assert [n for _, n in order_of_leaving(mrd_header(acceleration=(2, 1)), stream)] == [8]


def test_one_flag_for_all_contrasts_of_a_slice():
    echoes = [scan(range(0, 16, 2), contrast=n) for n in range(3)]
    interleaved = join(*echoes)[np.arange(24).reshape(3, 8).T.ravel()]
    interleaved.flag(-1, LAST_IN_SLICE)
    left = order_of_leaving(mrd_header(acceleration=(2, 1)), interleaved)
    assert [(key.contrast, n) for key, n in left] == [(0, 24), (1, 24), (2, 24)]


def test_one_flag_for_each_contrast_of_a_slice():
    echoes = [scan(range(0, 16, 2), contrast=n) for n in range(3)]
    interleaved = join(*echoes)[np.arange(24).reshape(3, 8).T.ravel()]
    interleaved.flag([-3, -2, -1], LAST_IN_SLICE)
    left = order_of_leaving(mrd_header(acceleration=(2, 1)), interleaved)
    assert [(key.contrast, n) for key, n in left] == [(0, 22), (1, 23), (2, 24)]


def test_flags_at_the_end_of_every_partition():
    lines = [(kz, ky) for kz in (1, 0, 2) for ky in range(0, 16, 2)]
    stream = scan(lines).flag([7, 15, 23], LAST_IN_SLICE)
    left = order_of_leaving(mrd_header(nz=3, acceleration=(2, 1)), stream)
    assert [n for _, n in left] == [24]


@pytest.mark.parametrize("name", ["LAST_IN_REPETITION", "LAST_IN_MEASUREMENT"])
def test_the_end_of_everything_ends_all_slices(name):
    stream = join(scan(range(0, 16, 2)), scan(range(0, 16, 2), slice=1))
    stream.flag(-1, int(AcquisitionFlag[name]))
    assert [n for _, n in order_of_leaving(mrd_header(acceleration=(2, 1)), stream)] == [16, 16]


def test_without_flags_the_next_repetition_ends_a_frame():
    stream = join(*(scan(range(n % 2, 16, 2), repetition=n) for n in range(3)))
    header = mrd_header(acceleration=(2, 1))
    assert [n for _, n in order_of_leaving(header, stream)] == [10, 18, -1]
    assert all(frame.complete for frame in frames(run(header, stream)).values())


def test_repetitions_in_the_inner_loop_stay_apart():
    reps = join(*(scan(range(0, 16, 2), repetition=n) for n in range(3)))
    inner = reps[np.arange(24).reshape(3, 8).T.ravel()]
    assert_same(run(mrd_header(acceleration=(2, 1)), inner), brute_force(inner, 16, 1))


def test_all_counters_make_frames():
    names = ("slice", "contrast", "phase", "repetition", "set", "encoding_space_ref")
    parts = [scan(range(16), **{name: 1}) for name in names]
    assert_same(run(mrd_header(), *parts), brute_force(join(*parts), 16, 1))


@pytest.mark.parametrize("flagged", [True, False])
def test_what_an_aborted_scan_leaves_is_said_to_be_incomplete(flagged):
    stream = join(scan(range(16)), scan(range(7), repetition=1))
    if flagged:
        stream.flag(15, LAST_IN_SLICE)
    first, second = frames(run(mrd_header(), stream)).values()
    assert first.complete and not second.complete
    assert second.mask.sum() == 7


def test_a_lost_line_is_told():
    stream = scan([ky for ky in range(0, 16, 2) if ky != 6]).flag(-1, LAST_IN_SLICE)
    (frame,) = frames(run(mrd_header(acceleration=(2, 1)), stream)).values()
    assert not frame.complete


def test_random_sampling_and_partial_fourier_are_complete_when_the_scanner_says_so():
    random = np.sort(np.random.default_rng(4).choice(64, 24, replace=False))
    for lines in (random, range(26, 64), range(0, 40)):
        stream = scan(lines).flag(-1, LAST_IN_SLICE)
        left = order_of_leaving(mrd_header(64), stream)
        assert [n for _, n in left] == [len(lines)]
        (frame,) = frames(run(mrd_header(64), stream)).values()
        assert frame.complete


def test_lines_lie_where_the_centre_tells():
    header = mrd_header(16, step1=(0, 11, 4))
    stream = scan(range(12))
    assert_same(run(header, stream), brute_force(stream, 16, 1, shift=4))
    assert order_of_leaving(header, stream)[0][1] == 12


@pytest.mark.parametrize("limits", [(0, 15, 0), (0, 0, 0)])
def test_limits_that_were_not_set(limits):
    stream = scan(range(16))
    assert_same(run(mrd_header(16, step1=limits), stream), brute_force(stream, 16, 1))


def test_lines_outside_the_matrix_are_dropped():
    stream = join(scan(range(16)), scan([16, 200]))[[16, *range(16), 17]]
    assert_same(run(mrd_header(), stream), brute_force(scan(range(16)), 16, 1))


def test_bad_samples_cost_their_line_only():
    stream = scan(range(16))
    stream.samples[5, 1, 2] = np.nan
    stream.samples[9, 0] = np.inf
    good = stream[[n for n in range(16) if n not in (5, 9)]]
    items = run(mrd_header(), stream)
    assert_same(items, brute_force(good, 16, 1))
    (frame,) = frames(items).values()
    assert not frame.complete and frame.n_readouts == 14


def test_a_bad_line_does_not_delay_the_frame():
    stream = scan(range(0, 16, 2)).flag(-1, LAST_IN_SLICE)
    stream.samples[3] = np.nan
    assert [n for _, n in order_of_leaving(mrd_header(acceleration=(2, 1)), stream)] == [8]


def test_nothing_but_bad_samples_gives_no_frame():
    stream = scan(range(16))
    stream.samples[:] = np.nan
    assert run(mrd_header(), stream) == []


def test_readouts_with_other_coils_are_dropped_but_their_flags_count():
    blocks = []
    for part in (scan(range(0, 14, 2)), scan([14]).flag(0, LAST_IN_SLICE)):
        mask = np.ones((len(part.headers), 2 * NX), bool)
        blocks.append(HybridBlock(part.headers, part.samples, mask, np.zeros(0, np.int64)))
    wrong = blocks[1].samples.repeat(2, axis=1)
    blocks[1] = HybridBlock(blocks[1].headers, wrong, blocks[1].readout_mask, np.zeros(0, np.int64))
    (frame,) = Sort(mrd_header(acceleration=(2, 1)))(iter(blocks))
    assert frame.mask.sum() == 7


def test_navigators_are_no_lines_of_the_image():
    stream = join(scan(range(16)), scan([3, 4], seed=9))[[16, *range(16), 17]]
    stream.flag([0, -1], int(AcquisitionFlag.IS_NAVIGATION_DATA))
    assert_same(run(mrd_header(), stream), brute_force(scan(range(16)), 16, 1))


def calibrated(acceleration: int, block: range, ny: int = 32) -> tuple[Readouts, list[int]]:
    """One accelerated image with embedded calibration lines in order of ky."""
    lines = [ky for ky in range(ny) if ky % acceleration == 0 or ky in block]
    stream = scan(lines)
    for n, ky in enumerate(lines):
        if ky in block:
            stream.flag(n, CALIBRATION if ky % acceleration else BOTH)
    return stream.flag(-1, LAST_IN_SLICE), lines


def test_embedded_calibration_leaves_when_the_block_is_whole_and_lines_are_imaged_too():
    stream, lines = calibrated(2, range(10, 22))
    header = mrd_header(32, acceleration=(2, 1))
    items = run(header, stream, size=1)
    calibration, frame = items
    assert isinstance(calibration, Calibration)
    full = brute_force(stream, 32, 1)[frame.key][0]
    assert np.allclose(calibration.kspace, full[:, :, 10:22], atol=1e-6)
    assert frame.calibration is calibration.kspace
    assert np.array_equal(np.flatnonzero(frame.mask[0]), lines)
    assert frame.n_readouts == len(lines)
    till_block = lines.index(22) + 1
    early = run(header, stream[:till_block], size=1)
    assert isinstance(early[0], Calibration)
    assert not isinstance(run(header, stream[: till_block - 1], size=100)[0], Frame)


def test_calibration_is_cut_to_have_its_centre_in_the_middle():
    stream, _ = calibrated(2, range(10, 25))
    calibration, frame = run(mrd_header(32, acceleration=(2, 1)), stream)
    full = brute_force(stream, 32, 1)[frame.key][0]
    centre = calibration.kspace.shape[2] // 2
    assert np.allclose(calibration.kspace[:, :, centre], full[:, :, 16], atol=1e-6)
    assert calibration.kspace.shape[2] == 13


def test_separate_calibration_leaves_with_the_first_image_line_and_is_no_part_of_the_image():
    reference = scan(range(12, 20), seed=5).flag(slice(None), CALIBRATION)
    images = [scan(range(0, 32, 4), contrast=n).flag(-1, LAST_IN_SLICE) for n in range(2)]
    header = mrd_header(32, acceleration=(4, 1), mode="separate")
    calibration, *both = run(header, reference, *images)
    assert np.allclose(calibration.kspace, reference.samples.transpose(1, 0, 2)[:, None])
    assert_same(both, brute_force(join(*images), 32, 1))
    assert all(frame.calibration is calibration.kspace for frame in both)
    assert [frame.n_readouts for frame in both] == [16, 8]


def test_each_repetition_has_its_own_calibration_or_the_latest():
    first, _ = calibrated(2, range(10, 22))
    second = first[slice(None)]
    second.samples *= 2
    third = scan(range(0, 32, 2)).flag(-1, LAST_IN_SLICE)
    for repetition, part in enumerate((first, second, third)):
        part.headers["idx"]["repetition"] = repetition
    items = run(mrd_header(32, acceleration=(2, 1)), first, second, third)
    kinds = [type(item) for item in items]
    assert kinds == [Calibration, Frame, Calibration, Frame, Frame]
    assert np.allclose(items[2].kspace, 2 * items[0].kspace)
    for frame, calibration in ((1, 0), (3, 2), (4, 2)):
        assert items[frame].calibration is items[calibration].kspace


def test_calibration_of_a_slab():
    ny, nz, block = 16, 8, (range(2, 6), range(5, 11))
    lines = [
        (kz, ky)
        for kz in range(nz)
        for ky in range(ny)
        if (kz % 2 == 0 and ky % 2 == 0) or (kz in block[0] and ky in block[1])
    ]
    stream = scan(lines)
    for n, (kz, ky) in enumerate(lines):
        if kz in block[0] and ky in block[1]:
            stream.flag(n, BOTH)
    stream.flag(-1, LAST_IN_SLICE)
    calibration, frame = run(mrd_header(ny, nz, acceleration=(2, 2)), stream, size=3)
    full = brute_force(stream, ny, nz)[frame.key][0]
    assert np.allclose(calibration.kspace, full[:, 2:6, 5:11], atol=1e-6)
    assert frame.complete


def test_calibration_without_the_centre_is_not_used():
    stream = scan(range(0, 32, 2)).flag([2, 3], BOTH).flag(-1, LAST_IN_SLICE)
    (frame,) = run(mrd_header(32, acceleration=(2, 1)), stream)
    assert frame.calibration is None


def test_noise_of_a_frame_is_1_with_unequal_averages():
    rng = np.random.default_rng(1)
    parts = [scan(range(64), average=n) for n in range(3)]
    parts.append(scan(range(24, 40), average=3))
    for part in parts:
        shape = (*part.samples.shape, 2)
        part.samples[:] = rng.standard_normal(shape, np.float32).view(np.complex64)[..., 0]
    items = run(mrd_header(64, averages=4), *parts)
    (frame,) = frames(items).values()
    assert_same(items, brute_force(join(*parts), 64, 1))
    image = np.fft.ifft(frame.kspace, axis=2, norm="ortho")
    assert np.std(image.real) == pytest.approx(1, abs=0.07)
