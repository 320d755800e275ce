"""Data consistency against a dense solver; the loop with networks whose answer is known."""

import numpy as np
import pytest

from engines.manifest import Limits, Manifest
from engines.unrolled import (
    READOUT,
    SLICES,
    Schedule,
    adjoint,
    as_planes,
    as_volume,
    consistent,
    levels,
    planes_across,
    solved,
    unrolled,
)
from gadgets.fft import fftc


def scan(seed: int = 0, coils: int = 4, shape: tuple[int, int] = (24, 20)):
    """Random maps of unit norm, an image, its undersampled k-space without noise."""
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((coils, 1, *shape, 2), np.float32).view(np.complex64)[..., 0]
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    image = rng.standard_normal((1, *shape, 2), np.float32).view(np.complex64)[..., 0]
    mask = rng.random((1, shape[0])) < 0.6
    kspace = fftc(maps * image, (-2,)) * mask[None, :, :, None]
    return maps, image, mask, kspace.astype(np.complex64)


def test_data_consistency_solves_the_normal_equations() -> None:
    maps, image, mask, kspace = scan()
    given = np.roll(image, 1, axis=1)
    weight = 0.3
    found = consistent(
        given, adjoint(kspace, mask, maps), mask, maps, weight, threads=1, iterations=60
    )
    ny = mask.shape[1]
    dft = fftc(np.eye(ny, dtype=np.complex128), (0,))[mask[0]]
    for column in (0, 7, 19):
        encoding = np.concatenate([dft * m[0, :, column] for m in maps])
        y = np.concatenate([k[0, mask[0], column] for k in kspace])
        normal = encoding.conj().T @ encoding + weight * np.eye(ny)
        expected = np.linalg.solve(normal, encoding.conj().T @ y + weight * given[0, :, column])
        np.testing.assert_allclose(found[0, :, column], expected, atol=2e-4)


def test_threads_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, image, mask, kspace = scan()
    right = adjoint(kspace, mask, maps)
    whole = consistent(image, right, mask, maps, 0.1, threads=1)
    monkeypatch.setattr("engines.unrolled.CHUNK_BYTES", 8000)
    np.testing.assert_allclose(
        consistent(image, right, mask, maps, 0.1, threads=2), whole, atol=1e-5
    )


def test_slab_undersampled_along_both_directions() -> None:
    rng = np.random.default_rng(2)
    maps = rng.standard_normal((6, 4, 8, 6, 2), np.float32).view(np.complex64)[..., 0]
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    image = rng.standard_normal((4, 8, 6, 2), np.float32).view(np.complex64)[..., 0]
    mask = rng.random((4, 8)) < 0.7
    kspace = fftc(maps * image, (1, 2)) * mask[None, :, :, None]
    found = consistent(
        np.zeros_like(image), adjoint(kspace, mask, maps), mask, maps, 0.0, iterations=80
    )
    np.testing.assert_allclose(found, image, atol=1e-2)


def test_a_batch_of_slices_is_solved_as_each_alone() -> None:
    """As training does: each slice has its own mask, and takes its own steps."""
    scans, weights = [scan(seed) for seed in range(3)], np.array([0.1, 0.5, 2.0], np.float32)
    start = np.concatenate([np.roll(image, 1, axis=1) for _, image, *_ in scans])
    right = np.concatenate([adjoint(kspace, mask, maps) for maps, _, mask, kspace in scans])
    sampled = np.concatenate([np.fft.ifftshift(mask[0])[None] for _, _, mask, _ in scans])
    maps = np.concatenate([maps for maps, *_ in scans], axis=1)
    found = solved(
        start, right, sampled[:, :, None].astype(np.float32), maps, weights[:, None, None]
    )
    for place, (own, _, mask, _) in enumerate(scans):
        one = slice(place, place + 1)
        alone = consistent(start[one], right[one], mask, own, float(weights[place]), threads=1)
        np.testing.assert_allclose(found[one], alone, atol=1e-5)


def network_of(limits: Limits, multiple_of: int = 8) -> Manifest:
    return Manifest(
        name="some",
        version="1",
        kind="regulariser",
        architecture={},
        inputs=(),
        outputs=(),
        multiple_of=multiple_of,
        limits=limits,
        licence="none",
    )


@pytest.mark.parametrize(
    ("shape", "across"),
    [
        ((1, 320, 320), SLICES),
        ((24, 320, 320), SLICES),  # too thin a slab for planes (z, y)
        ((32, 160, 320), READOUT),
        ((180, 230, 1), READOUT),
        ((64, 31, 320), SLICES),
    ],
)
def test_planes_of_3d_scans_are_across_the_readout(shape: tuple[int, ...], across: int) -> None:
    assert planes_across(shape, network_of(Limits(side=(32, 2048)))) == across


def test_planes_can_always_be_padded() -> None:
    assert planes_across((7, 64, 64), network_of(Limits(), multiple_of=8)) == SLICES


@pytest.mark.parametrize("across", [SLICES, READOUT])
def test_planes_and_volume_undo_each_other(across: int) -> None:
    volume = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    planes = as_planes(volume, across)
    assert planes.shape == {SLICES: (3, 4, 5), READOUT: (5, 3, 4)}[across]
    padded = np.pad(planes, ((0, 0), (0, 2), (0, 1)))
    np.testing.assert_array_equal(as_volume(padded, volume.shape, across), volume)


def test_the_network_sees_a_3d_scan_plane_by_plane_along_the_readout() -> None:
    """What a plane (z, y) is given is that of its own readout position."""
    rng = np.random.default_rng(4)
    maps, image = np.ones((1, 9, 12, 3), np.complex64), rng.standard_normal((9, 12, 3))
    seen = []

    def network(planes: np.ndarray) -> np.ndarray:
        seen.append(planes)
        return planes[:, :2] * np.array([1.0, 2.0, 3.0])[:, None, None, None]

    found = unrolled(
        maps * 0,
        np.ones((9, 12), bool),
        maps,
        image.astype(np.complex64),
        np.ones(image.shape, np.float32),
        network,
        Schedule((1.0,), ()),
        across=READOUT,
    )
    assert seen[0].shape == (3, 3, 16, 16)
    np.testing.assert_allclose(found, image * [1, 2, 3], rtol=1e-5, atol=1e-6)


def test_a_network_that_knows_the_truth_gives_the_truth() -> None:
    maps, image, mask, kspace = scan(shape=(27, 21))
    seen = []

    def network(planes: np.ndarray) -> np.ndarray:
        seen.append(planes)
        scale = planes[:, :1] * 0 + 1
        padded = np.pad(image, ((0, 0), (0, 5), (0, 3)), mode="reflect")
        return np.stack([padded.real, padded.imag], axis=1) / size * scale

    start = (image * 0.5).astype(np.complex64)
    size = np.float32(np.percentile(np.abs(start), 99))
    noise = np.full(start.shape, 0.1, np.float32)
    schedule = Schedule((1.0, 0.5), (1.0,))
    found = unrolled(kspace, mask, maps, start, noise, network, schedule)
    np.testing.assert_allclose(found, image, atol=1e-4)
    assert [planes.shape for planes in seen] == [(1, 3, 32, 24)] * 2
    np.testing.assert_allclose(seen[1][:, 2].max(), 0.05 / size, rtol=1e-5)


def test_background_stays_empty() -> None:
    maps, image, mask, kspace = scan()
    noise = np.ones(image.shape, np.float32)
    noise[:, :5] = 0
    found = unrolled(
        kspace, mask, maps, image, noise, lambda planes: planes[:, :2] + 1, Schedule((1.0,), ())
    )
    assert not found[:, :5].any()
    nothing = np.zeros_like(noise)
    assert not unrolled(
        kspace, mask, maps, image, nothing, lambda planes: planes[:, :2], Schedule((1.0,), ())
    ).any()


def test_it_can_be_given_up_between_steps() -> None:
    class GivenUp(Exception):
        pass

    maps, image, mask, kspace = scan()
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise GivenUp

    noise = np.ones(image.shape, np.float32)
    with pytest.raises(GivenUp):
        unrolled(
            kspace,
            mask,
            maps,
            image,
            noise,
            lambda planes: planes[:, :2],
            Schedule((1.0, 1.0), (1.0,)),
            check=check,
        )


def test_the_noise_is_that_of_the_object_not_of_air() -> None:
    image, noise = np.full((1, 20, 20), 0.01, np.complex64), np.full((1, 20, 20), 0.05, np.float32)
    image[0, 5:15, 5:15], noise[0, 5:15, 5:15] = 30j, 1.3
    noise[0, :, 15:] = 0
    assert levels(image, noise) == pytest.approx((1.3, 30))


def test_without_noise_map_the_noise_is_one() -> None:
    assert levels(np.ones((1, 4, 4), np.complex64), np.zeros((1, 4, 4), np.float32)) == (1, 1)


def test_schedule_of_a_manifest() -> None:
    assert Schedule.of({"sigma": [1, 0.5], "weight": [2]}) == Schedule((1.0, 0.5), (2.0,))
    with pytest.raises(ValueError, match="weight"):
        Schedule.of({"sigma": [1.0]})
    with pytest.raises(ValueError, match="one weight"):
        Schedule.of({"sigma": [1.0], "weight": [1.0]})
