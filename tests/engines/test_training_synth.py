"""Training of synthetic contrasts: examples keep images and truth together; it starts and ends."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra train")

from engines.engine import load_engine  # noqa: E402
from engines.store import Store  # noqa: E402
from engines.training.synth import Recipe, train  # noqa: E402
from engines.training.synth_data import TASKS, Maker, Slice, read_patient  # noqa: E402
from engines.training.synth_finish import finish_synthesis  # noqa: E402
from scanner.synthesis_data import stir_sequence, write_slices  # noqa: E402

TINY = {"steps": 2, "batch": 1, "channels": (4, 8), "blocks": (1, 1)}
TINY |= {"first_examples": 2, "first_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patients; eight files, of which the last is for validation."""
    folder = tmp_path_factory.mktemp("patients")
    write_slices(folder, 2, seed=3)
    files = sorted(folder.glob("*.npz"))
    for number in range(6):
        (folder / f"9{number}.npz").write_bytes(files[number % 2].read_bytes())
    return folder


class TestData:
    @pytest.mark.parametrize("task", sorted(TASKS))
    def test_the_same_number_makes_the_same_example(self, folder, task):
        one, again, other = (Maker(folder, task, seed, crop=64)[5] for seed in (1, 1, 2))
        for a, b in zip(one, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(one.planes, other.planes)
        assert one.planes.shape == (len(TASKS[task].channels), 64, 64)
        assert one.target.shape == (1, 64, 64) and np.isfinite(one.target).all()

    def test_bone_is_dark_in_phase_and_dense(self, folder):
        dark, dense = [], []
        for number in range(6):
            one = Maker(folder, "ct", 1)[number]
            cortex = one.target > 0.7
            if cortex.any():
                dark.append(one.planes[2][cortex[0]].mean())
                dense.append(one.planes[2][one.body[0] & (one.target[0] < 0.5)].mean())
        assert np.mean(dark) < 0.6 * np.mean(dense)

    def test_fat_is_bright_in_t2_and_dark_in_the_stir_aimed_at(self, folder):
        one = Slice(np.random.default_rng(1), read_patient(folder / "90.npz"), 0)
        t1, t2, stir = (one.image(name) for name in ("t1-0", "t2-0", "stir"))
        fat = t1 > np.percentile(t1[one.body], 90)
        assert stir[fat].mean() < 0.25 * t2[fat].mean()

    def test_the_inversion_time_nulls_fat(self):
        """T1 log 2 for an ideal inversion and an endless repetition; a little less of both here."""
        assert stir_sequence(370.0).ti_ms == pytest.approx(370 * np.log(2), rel=0.03)

    def test_validation_patients_are_not_trained_on(self, folder):
        trained, kept = (
            {f.name for f in Maker(folder, "stir", 1, validation=v)._files} for v in (False, True)
        )
        assert len(kept) == 1 and not trained & kept

    def test_an_empty_folder_says_what_makes_one(self, tmp_path):
        with pytest.raises(ValueError, match="boreside phantoms --synthesis"):
            Maker(tmp_path, "stir", 1)


class TestTraining:
    def test_weights_prove_themselves_on_their_golden_vector(self, folder, tmp_path, monkeypatch):
        for name in ("EXAMPLES", "VALIDATED"):
            monkeypatch.setattr(f"engines.training.synth_finish.{name}", 3)
        recipe = Recipe("ct", **TINY, crop=32)
        train(recipe, tmp_path, folder)
        finish_synthesis(tmp_path, folder, recipe, "0.9", "boreside train ct")
        engine = load_engine("ct", store=Store(site=tmp_path, shipped=tmp_path / "none"))
        found = engine.outputs(np.zeros((1, 5, 32, 40), np.float32))
        assert found["planes"].shape == found["log_scale"].shape == (1, 1, 32, 40)
        assert engine.manifest.parameters["interval_factor"] > 0
        assert engine.manifest.metrics["validation"]["outside_interval"] <= 0.05

    def test_interrupted_training_ends_at_the_same_weights(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("engines.training.synth.CHECKPOINT_STEPS", 1)
        recipe = Recipe("stir", **TINY, crop=32)

        class Stop(Exception):
            pass

        def stop(step, loss):
            if step == 1:
                raise Stop

        whole = torch.load(train(recipe, tmp_path / "a", folder), weights_only=True)
        with pytest.raises(Stop):
            train(recipe, tmp_path / "b", folder, report=stop)
        resumed = torch.load(train(recipe, tmp_path / "b", folder), weights_only=True)
        for name, value in whole["averaged"].items():
            torch.testing.assert_close(resumed["averaged"][name], value)

    def test_a_checkpoint_of_another_recipe_is_refused(self, folder, tmp_path):
        train(Recipe("stir", **TINY, crop=32), tmp_path, folder)
        with pytest.raises(ValueError, match="expected the recipe"):
            train(Recipe("stir", **TINY, crop=32, seed=2), tmp_path, folder)
