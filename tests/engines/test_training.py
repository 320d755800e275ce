"""Training: data as described, the same after an interruption, weights that the store takes."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")
pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra gpu")

from engines.engine import load_engine  # noqa: E402
from engines.nets import build  # noqa: E402
from engines.store import Store  # noqa: E402
from engines.training.denoiser import Recipe, example, train  # noqa: E402
from engines.training.finish import finish_denoiser  # noqa: E402
from engines.training.images import Images, find_files, read_stack  # noqa: E402
from engines.training.noise import complex_noise, sigma_map  # noqa: E402

SMALL = Recipe(seed=3, steps=6, batch=2, crop=32, channels=(8, 8, 8), blocks=(1, 1, 1))


def test_images_depend_on_seed_and_number_alone() -> None:
    first, again, other = Images(5)[3], Images(5)[3], Images(6)[3]
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (256, 256)
    assert np.percentile(np.abs(first.image), 99) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("support", [(1.0, 1.0), (0.6, 0.8)])
def test_noise_has_sigma_one_per_real_channel(support: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    noise = np.stack([complex_noise(rng, 64, np.array(support)) for _ in range(20)])
    assert noise.real.std() == pytest.approx(1, abs=0.02)
    assert noise.imag.std() == pytest.approx(1, abs=0.02)


def test_an_interpolated_image_has_white_noise_or_noise_in_the_middle_of_kspace_only() -> None:
    outside = np.abs(np.fft.fftfreq(64)) > 0.26
    spectra = [
        np.abs(np.fft.fft2(complex_noise(np.random.default_rng(seed), 64, np.array([0.5, 1.0]))))
        for seed in range(20)
    ]
    parts = np.array([s[outside].mean() / s[~outside].mean() for s in spectra])
    white = parts > 0.9
    assert 3 < white.sum() < 17
    assert parts[~white].max() < 1e-3


def test_noise_maps_stay_within_what_the_limits_promise() -> None:
    rng = np.random.default_rng(1)
    maps = np.stack([sigma_map(rng, 64, 0.1) for _ in range(50)])
    assert maps.min() > 0.03 and maps.max() < 0.6


def test_an_example_is_the_truth_with_the_noise_it_says() -> None:
    clean = Images(1)[0]
    found = []
    for seed in range(60):
        noisy, truth = example(np.random.default_rng(seed), clean, 64, (30.0, 70.0))
        if truth[1].any():
            found.append((noisy[:2] - truth) / noisy[2])
    assert np.std(found) == pytest.approx(1, abs=0.03)


def test_site_images_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = rng.random((3, 20, 24)).astype(np.float32)
    np.save(tmp_path / "a.npy", stack)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["reconstruction_rss"] = stack
    header = bytearray(352)
    header[:4] = struct.pack("<i", 348)
    header[40:56] = struct.pack("<8h", 3, 24, 20, 3, 1, 1, 1, 1)
    header[70:72] = struct.pack("<h", 16)
    header[108:120] = struct.pack("<3f", 352, 2.0, 1.0)
    header[344:348] = b"n+1\0"
    voxels = np.asfortranarray((stack.transpose(2, 1, 0) - 1) / 2).tobytes(order="F")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(bytes(header) + voxels))
    files = find_files(tmp_path)
    assert [file.name for file in files] == ["a.npy", "b.h5", "c.nii.gz"]
    for file in files:
        np.testing.assert_allclose(read_stack(file), stack / stack.max(), atol=1e-3)
    assert np.isfinite(Images(0, tmp_path)[1].image).all()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none"):
        Images(0, tmp_path)


def test_an_interrupted_training_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 4:
            raise Interrupted

    monkeypatch.setattr("engines.training.denoiser.CHECKPOINT_STEPS", 3)

    def run(folder: str, report) -> dict:
        return train(SMALL, tmp_path / folder, None, "cpu", report, bank_size=2)

    whole = run("whole", lambda step, loss: None)
    with pytest.raises(Interrupted):
        run("broken", stop)
    steps = []
    resumed = run("broken", lambda step, loss: steps.append(step))
    assert steps == [3, 4, 5]
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


def test_another_recipe_does_not_go_on_with_a_training(tmp_path: Path) -> None:
    train(SMALL, tmp_path, None, "cpu", lambda step, loss: None, bank_size=2)
    other = Recipe(**{**SMALL.__dict__, "seed": 4})
    with pytest.raises(ValueError, match="another recipe"):
        train(other, tmp_path, None, "cpu", lambda step, loss: None, bank_size=2)


def test_a_training_may_begin_with_finished_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    module = build(SMALL.architecture())
    given = {k: rng.normal(0, 0.01, v.shape).astype("f4") for k, v in module.state_dict().items()}
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **given)
    slow = replace(SMALL, steps=1, peak_rate=1e-12)
    found = train(
        slow, tmp_path, None, "cpu", lambda step, loss: None, tmp_path / "weights.npz", bank_size=2
    )
    for name, value in given.items():
        np.testing.assert_allclose(found[name].numpy(), value, atol=1e-6)


def test_finished_weights_serve_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.training.finish.COUNT", 1)
    state = train(SMALL, tmp_path, None, "cpu", lambda step, loss: None, bank_size=2)
    target = finish_denoiser(tmp_path, SMALL, "0.7", None, "boreside train denoiser")
    assert (tmp_path / "report.md").is_file() and (tmp_path / "report.png").is_file()
    assert "Not a medical device" in (target / "card.md").read_text()
    for runtime in ("onnx", "torch"):
        engine = load_engine("denoiser", runtime=runtime, store=Store(shipped=tmp_path))
        assert engine.run(np.zeros((2, 3, 24, 40), np.float32)).shape == (2, 2, 24, 40)
    assert set(state) == set(np.load(target / "weights.npz").files)
