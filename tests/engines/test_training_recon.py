"""Training of the reconstruction: through the very steps that are run, and knowing its error."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra train")
pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra train")

from engines.engine import load_engine  # noqa: E402
from engines.nets import build  # noqa: E402
from engines.store import Store  # noqa: E402
from engines.training import denoiser, end_to_end, recon  # noqa: E402
from engines.training.finish import finish_denoiser  # noqa: E402
from engines.training.images import Images  # noqa: E402
from engines.training.multicoil import coil_maps, estimated, scan  # noqa: E402
from engines.training.prepare import prepare  # noqa: E402
from engines.unrolled import Schedule  # noqa: E402

SMALL = end_to_end.Recipe(seed=3, steps=4, batch=2, window=(64, 32), snr=(8.0, 20.0))
SCHEDULE = Schedule((1.0, 0.6, 0.4), (0.5, 1.0))
ARCHITECTURE = {
    "name": "bias-free-unet",
    "channels": [8, 8, 8],
    "blocks": [1, 1, 1],
    "uncertainty": True,
}


def quiet(step: int, loss: float) -> None:
    pass


def test_synthetic_scans_can_be_reconstructed() -> None:
    errors = []
    for number in range(5):
        image = Images(2)[number].image[64:-64, 64:-64]
        one = scan(np.random.default_rng(number), image, 8, 2, 40.0)
        start, sigma = prepare(one)
        errors.append(recon.error_of(start, one.truth))
        assert 0.5 < np.median(sigma) < 3
    assert np.median(errors) < 0.15


def test_sensitivities_are_not_known_exactly() -> None:
    rng = np.random.default_rng(0)
    true = coil_maps(rng, 8, (48, 32))
    errors = []
    for _ in range(20):
        known = estimated(rng, true)
        np.testing.assert_allclose(np.sum(np.abs(known) ** 2, 0), 1, rtol=1e-5)
        errors.append(np.linalg.norm(known - true) / np.linalg.norm(true))
    assert 0.001 < min(errors) < max(errors) < 0.05


def test_what_is_trained_is_what_is_run() -> None:
    """The batched, differentiable steps of training give the images of `engines.unrolled`."""
    torch.manual_seed(1)
    module = build(ARCHITECTURE).eval()
    made = end_to_end.example(SMALL, Images(1), 0)
    with torch.no_grad():
        images, log_error, scale = end_to_end.forward(module, end_to_end.tensors(made), SCHEDULE)
    for place, (one, *prepared) in enumerate(made):
        image, error = recon.reconstruct(one, tuple(prepared), module, SCHEDULE)
        assert error is not None
        difference = np.linalg.norm(images[place].numpy() - image[0]) / np.linalg.norm(image)
        assert difference < 1e-3
        found = (torch.exp(log_error[place]) * scale[place]).numpy()
        np.testing.assert_allclose(found, error[0], rtol=2e-2, atol=1e-3 * error.max())


def test_training_lessens_the_error(tmp_path: Path) -> None:
    """From random weights, on scans of the first step."""
    torch.manual_seed(1)
    module, recipe = build(ARCHITECTURE), replace(SMALL, steps=40, peak_rate=1e-2)
    before = _error(module, end_to_end.START)
    state, schedule = end_to_end.train(
        ARCHITECTURE, module.state_dict(), recipe, tmp_path, None, "cpu", quiet
    )
    module.load_state_dict(state)
    assert schedule != end_to_end.START
    assert _error(module, schedule) < 0.98 * before


def _error(module, schedule: Schedule) -> float:
    batch = end_to_end.tensors(end_to_end.example(SMALL, Images(3003), 0))
    with torch.no_grad():
        return float(end_to_end.loss_of(*end_to_end.forward(module, batch, schedule), batch)[0])


def test_an_interrupted_training_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise Interrupted

    monkeypatch.setattr(end_to_end, "CHECKPOINT_STEPS", 2)
    start = build(ARCHITECTURE).state_dict()

    def run(folder: str, report) -> tuple[dict, Schedule]:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        return end_to_end.train(ARCHITECTURE, start, SMALL, place, None, "cpu", report)

    whole, schedule = run("whole", quiet)
    with pytest.raises(Interrupted):
        run("broken", stop)
    steps = []
    resumed, schedule_too = run("broken", lambda step, loss: steps.append(step))
    assert schedule_too == schedule
    assert steps == [2, 3]
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)
    with pytest.raises(ValueError, match="another recipe"):
        other = replace(SMALL, seed=4)
        end_to_end.train(ARCHITECTURE, start, other, tmp_path / "whole", None, "cpu", quiet)


def test_finished_weights_serve_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.training.finish.COUNT", 1)
    monkeypatch.setattr(recon, "FACTORS", (3,))
    monkeypatch.setattr(recon, "LEVELS", (12.0,))
    monkeypatch.setattr(recon, "HELD_OUT_SCANS", 1)
    recipe = denoiser.Recipe(
        seed=3, steps=2, batch=2, crop=32, channels=(8, 8, 8), blocks=(1, 1, 1)
    )
    denoiser.train(recipe, tmp_path, None, "cpu", quiet, bank_size=2)
    source = finish_denoiser(tmp_path, recipe, "0.7", None, "boreside train denoiser")
    target = recon.make_recon(
        source, tmp_path, None, None, "0.3", SMALL, "boreside train recon", quiet
    )
    assert "Not a medical device" in (target / "card.md").read_text()
    engine = load_engine("recon", store=Store(shipped=tmp_path))
    assert engine.manifest is not None
    assert set(engine.manifest.metrics["r3_snr_12"]) == {
        "sense",
        "nrmse",
        "correlation",
        "predicted",
    }
    outputs = engine.outputs(np.zeros((1, 3, 24, 40), np.float32))
    assert {name: part.shape[1] for name, part in outputs.items()} == {"planes": 2, "log_sigma": 1}


def test_an_earlier_reconstruction_can_be_trained_further(tmp_path: Path) -> None:
    untrained = replace(SMALL, steps=0)
    begin = Schedule(sigma=(2.5, 1.5, 9.0), weight=(0.5, 1.25))
    start = {name: value + 0 for name, value in build(ARCHITECTURE).state_dict().items()}
    state, schedule = end_to_end.train(
        ARCHITECTURE, start, untrained, tmp_path, None, "cpu", quiet, begin
    )
    assert schedule == begin
    assert all(torch.equal(state[name], value) for name, value in start.items())
