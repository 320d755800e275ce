"""Images of random phantom patients, to train on."""

from pathlib import Path

import numpy as np

from scanner.phantom_images import CONTRASTS, phantom_images, write_phantoms


def test_a_seed_makes_one_patient_in_several_contrasts() -> None:
    first, again, other = (phantom_images(np.random.default_rng(s), 32) for s in (5, 5, 6))
    assert first.shape == (CONTRASTS, 32, 32)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.isfinite(first).all()
    assert first.min() >= 0


def test_files_which_are_there_are_left_alone(tmp_path: Path) -> None:
    write_phantoms(tmp_path, 2, seed=1, side=16)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    np.save(files[0], np.zeros(1))
    write_phantoms(tmp_path, 2, seed=1, side=16)
    assert np.load(files[0]).shape == (1,)
    assert np.load(files[1]).dtype == np.float16
