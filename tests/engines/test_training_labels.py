"""Training of the labelling network: examples keep truth and image together; it starts and ends."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra train")

from engines.engine import Options, load_engine  # noqa: E402
from engines.nets import build  # noqa: E402
from engines.store import Store  # noqa: E402
from engines.training.labels import Recipe, train  # noqa: E402
from engines.training.labels_contrast import levels, render  # noqa: E402
from engines.training.labels_data import CLASSES, MARKS, example, read_patient  # noqa: E402
from engines.training.labels_finish import finish_labels  # noqa: E402
from gadgets.items import Series  # noqa: E402
from gadgets.label import label  # noqa: E402
from protocols.geometry import Volume  # noqa: E402
from scanner.label_data import write_labelled  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    write_labelled(folder, 1, seed=3)
    return folder


@pytest.fixture(scope="module")
def patient(folder):
    return read_patient(next(folder.glob("*.npz")))


class TestData:
    def test_every_structure_has_a_class(self, patient):
        of = dict(zip(patient.arrays["structures"], patient.classes))
        wanted = {"": "none", "L3": "vertebra", "L4/L5": "disc", "S1": "S1", "canal": "canal"}
        wanted |= {"sacrum": "sacrum", "SI_left": "SI", "S1/S2": "disc"}
        assert {name: CLASSES[of[name]] for name in wanted} == wanted

    def test_centres_lie_in_their_vertebrae(self, patient):
        names = list(patient.arrays["structures"])
        for number, structure in enumerate(patient.arrays["structure"]):
            for name, (row, column, off) in zip(
                patient.arrays["landmark_names"], patient.arrays["landmarks"][number]
            ):
                if name in ("L2", "L3", "L4") and abs(off) < 8:
                    assert names[structure[round(row), round(column)]] == name

    def test_deformed_centres_stay_in_vertebrae(self, patient):
        inside = []
        for seed in range(12):
            made = example(np.random.default_rng(seed), patient, 1, (96, 80))
            peaks = made.heat[MARKS.index("centre")] > 0.97
            inside += list(made.classes[peaks] == CLASSES.index("vertebra"))
        assert len(inside) > 10 and np.mean(inside) > 0.95

    def test_the_same_seed_makes_the_same_example(self, patient):
        one, other = (example(np.random.default_rng(4), patient, 0, (64, 64)) for _ in range(2))
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)

    def test_contrasts_differ_and_air_is_dark(self, patient):
        rng = np.random.default_rng(2)
        drawn = [levels(rng, patient.arrays["parameters"])[0] for _ in range(8)]
        assert all(values[0] == 0 for values in drawn)
        assert np.min(np.abs(np.diff(drawn, axis=0)).max(axis=1)) > 0.01

    def test_images_are_finite_and_scaled(self, patient):
        arrays = patient.arrays
        density, fat = (arrays[n][0].astype(np.float32) / 255 for n in ("density", "fat"))
        for seed in range(6):
            rng = np.random.default_rng(seed)
            image = render(rng, arrays["tissue"][0], density, fat, arrays["parameters"])
            assert np.isfinite(image).all()
            assert np.percentile(image, 99) == pytest.approx(1, rel=0.3)


def test_probabilities_add_up():
    module = build(Recipe().architecture()).eval()
    with torch.no_grad():
        found = module(torch.rand(1, 1, 48, 32))
    assert found.shape == (1, len(CLASSES) + len(MARKS), 48, 32)
    assert torch.allclose(found[:, : len(CLASSES)].sum(1), torch.ones(1), atol=1e-5)


def test_it_trains_goes_on_and_ends_as_weights_that_label(folder, tmp_path):
    recipe = Recipe(steps=3, batch=2, crop=(64, 48), channels=(8, 8, 8, 8))
    losses = []
    train(recipe, tmp_path, folder, lambda step, loss: losses.append(loss))
    assert len(losses) == 3 and np.isfinite(losses).all()
    train(recipe, tmp_path, folder, lambda step, loss: losses.append(loss))
    assert len(losses) == 3
    finish_labels(tmp_path, recipe, "0.9", "boreside train labels")
    engine = load_engine("labels", "0.9", store=Store(shipped=tmp_path), options=Options(1))
    directions = np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]])
    volume = Volume(np.zeros(3), directions, (3, 70, 50), np.array([2.0, 2.0, 4.0]))
    data = np.random.default_rng(0).random(volume.shape, np.float32)
    assert label(Series("t2", data, volume), engine).labels.shape == volume.shape
