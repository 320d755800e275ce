"""Synthetic STIR of the measurements of an exam: made where it may be, and a reason elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import structlog.testing

from engines.engine import UnavailableEngine, load_engine
from gadgets.finish import Finish
from gadgets.items import Image, Role, Series
from gadgets.series import CollectSeries
from gadgets.stream import chain
from gadgets.synthesis.exam_contrasts import SyntheticStir, VirtualEnhancement
from gadgets.synthesis.marks import BurnIn
from gadgets.synthesis.stacks import Memory
from protocols.meta import parse_meta
from tests.gadgets.synthesis.stack_doubles import SIDE, SLICES, header, images, magnitudes


@pytest.fixture(scope="module")
def engine():
    return load_engine("stir")


def measure(memory, weighting, engine, items, exam="1.2.3", gadget=SyntheticStir):
    """What one measurement's chain yields behind reconstruction, and why it made nothing."""
    own = header(weighting)
    with structlog.testing.capture_logs() as said:
        found = list(chain([CollectSeries(own), gadget(own, exam, memory, engine)])(iter(items)))
    return found, " ".join(entry.get("reason", "") for entry in said)


def both(engine, t1=None, t2=None, **more):
    """T1w, then T2w: what the second one yields, and the reason."""
    memory = Memory()
    measure(memory, "t1", engine, t1 or images("t1"), **more)
    return measure(memory, "t2", engine, t2 or images("t2"), **more)


@pytest.fixture(scope="module")
def made(engine):
    found, reason = both(engine)
    assert not reason
    return found


def synthetic(found):
    return [item for item in found if isinstance(item, Image) and item.role is Role.SYNTHETIC]


class TestMade:
    def test_acquired_images_and_series_come_first_and_unchanged(self, made):
        acquired = images("t2")
        assert all(np.array_equal(a.data, b.data) for a, b in zip(acquired, made))
        assert isinstance(made[SLICES], Series)
        assert all(item.role is Role.SYNTHETIC for item in made[SLICES + 1 :])

    def test_it_looks_like_the_stir_that_was_not_acquired(self, made):
        truth = magnitudes()["stir"]
        planes = [i.data[0] for i in synthetic(made) if i.quantity == "synthetic-stir"]
        assert len(planes) == SLICES
        assert np.corrcoef(np.stack(planes).ravel(), truth.ravel())[0, 1] > 0.9

    def test_the_uncertainty_goes_with_it(self, made):
        doubt = [i.data for i in synthetic(made) if i.quantity == "synthetic-stir-uncertainty"]
        assert len(doubt) == SLICES and all((part > 0).all() for part in doubt)

    def test_history_names_network_version_and_hash(self, made, engine):
        for image in synthetic(made):
            assert engine.manifest.label in image.history[-1]
            assert engine.manifest.files["model.onnx"][:12] in image.history[-1]
            assert image.attributes["SyntheticData"] == "YES"

    def test_it_is_burned_in(self, made):
        own = header("t2")
        messages = list(chain([Finish(own), BurnIn()])(iter(synthetic(made))))
        metas = [parse_meta(message.attributes) for message in messages]
        assert {meta["BurnedInAnnotation"] for meta in metas} == {"YES"}
        assert {meta["BoresideRole"] for meta in metas} == {"synthetic"}

    def test_the_order_of_measurements_does_not_matter(self, engine):
        memory = Memory()
        measure(memory, "t2", engine, images("t2"))
        found, reason = measure(memory, "t1", engine, images("t1"))
        assert len(synthetic(found)) == 2 * SLICES and not reason


class TestNeverAnInputOfTriage:
    def test_no_series_is_made_of_it(self, made):
        """Triage and triggers see `Series` alone, and these are of acquired images."""
        again = list(CollectSeries(header("t2"))(iter(synthetic(made))))
        assert not any(isinstance(item, Series) for item in again)

    def test_the_series_of_its_own_measurement_holds_acquired_voxels_alone(self, made):
        (series,) = (item for item in made if isinstance(item, Series))
        assert series.weighting == "t2"
        acquired = np.concatenate([np.abs(image.data) for image in images("t2")])
        np.testing.assert_allclose(np.sort(series.data.ravel()), np.sort(acquired.ravel()))


class TestNoImageButAReason:
    def reason(self, engine, **stacks):
        found, reason = both(engine, **stacks)
        assert not synthetic(found)
        return reason

    def test_one_contrast_alone_waits(self, engine):
        found, reason = measure(Memory(), "t2", engine, images("t2"))
        assert not synthetic(found) and not reason

    def test_contrasts_of_two_exams_do_not_meet(self, engine):
        memory = Memory()
        measure(memory, "t1", engine, images("t1"), exam="one")
        found, _ = measure(memory, "t2", engine, images("t2"), exam="two")
        assert not synthetic(found)

    def test_no_exam(self, engine):
        _, reason = measure(Memory(), "t2", engine, images("t2"), exam=None)
        assert "no exam" in reason

    def test_slices_elsewhere(self, engine):
        assert "geometry mismatch" in self.reason(engine, t1=images("t1", shift_mm=(3.0, 0.0)))

    def test_the_patient_has_moved(self, engine):
        moved = [replace(i, data=np.roll(i.data, 12, axis=1)) for i in images("t1")]
        assert "moved by about 13" in self.reason(engine, t1=moved)

    def test_too_noisy(self, engine):
        assert "signal-to-noise" in self.reason(engine, t2=images("t2", snr=6.0))

    def test_no_noise_scan(self, engine):
        plain = [replace(i, snr_units=False) for i in images("t2")]
        assert "SNR units" in self.reason(engine, t2=plain)

    def test_lines_missing(self, engine):
        cut = [replace(i, complete=False) for i in images("t2")]
        assert "lines missing" in self.reason(engine, t2=cut)

    def test_pixels_too_large(self, engine):
        large = [
            [replace(i, field_of_view=(600.0, 600.0, 3.0)) for i in images(name)]
            for name in ("t1", "t2")
        ]
        assert "expected pixels" in self.reason(engine, t1=large[0], t2=large[1])

    def test_unlike_training(self, engine):
        """A STIR in place of T1w: there fat is dark."""
        assert "unlike what" in self.reason(engine, t1=images("stir"))

    def test_no_network(self):
        engine = UnavailableEngine("stir", "", "no weights")
        assert "no weights" in self.reason(engine)

    def test_nan(self, engine):
        broken = [replace(i, data=np.full_like(i.data, np.nan)) for i in images("t2")]
        assert "finite" in self.reason(engine, t2=broken)


class TestGeometry:
    def test_another_matrix_of_the_same_slices_is_brought_onto_the_grid(self, engine):
        coarse = [
            replace(i, data=i.data.reshape(1, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)))
            for i in images("t1")
        ]
        shifted = []
        for image in coarse:  # The middle of four pixels lies half a pixel after the first.
            readout = image.header.copy()
            readout["position"] += np.array([0, 0.55, -0.55], np.float32)
            shifted.append(replace(image, header=readout, noise_map=np.ones(image.data.shape)))
        found, reason = both(engine, t1=shifted)
        assert len(synthetic(found)) == 2 * SLICES, reason


class TestEnhancement:
    def test_it_needs_three_contrasts(self, engine):
        memory = Memory()
        for name in ("t1", "t2"):
            found, reason = measure(memory, name, engine, images(name), gadget=VirtualEnhancement)
            assert not synthetic(found) and not reason
