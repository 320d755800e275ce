"""Synthetic CT of water-fat images: values, marks, and reasons why there is none."""

from dataclasses import replace

import numpy as np
import pytest
import structlog.testing

from bench.synthetic import PIXEL_MM, SIDE, SLICE_MM, Scene, draws
from engines.engine import load_engine
from gadgets.items import FrameKey, Image, Role
from gadgets.synthesis.marks import computed
from gadgets.synthesis.synthetic_ct import CHANNELS, OFFSET_HU, SyntheticCt
from protocols.mrd_types import ACQUISITION_HEADER
from scanner.phantom import LumbarSpine, SpineParameters

SNR = 50.0


@pytest.fixture(scope="module")
def engine():
    return load_engine("ct")


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(5)
    fine = 2 * SIDE
    place = ((np.arange(fine) + 0.5) / fine - 0.5) * SIDE * PIXEL_MM
    down, front = np.meshgrid(-place, place, indexing="ij")
    points = np.stack([np.full_like(down, 8.0), front, down - 20], axis=-1)
    return Scene(LumbarSpine(SpineParameters(seed=5)), points, draws(rng, 45.0))


@pytest.fixture(scope="module")
def items(scene):
    """An echo, and what water-fat separation gives of the slice."""
    maps, sigma = scene.water_fat(SNR, np.random.default_rng(1))
    readout = np.zeros(1, ACQUISITION_HEADER)[0]
    readout["read_dir"], readout["phase_dir"], readout["slice_dir"] = np.eye(3)
    echo = Image(
        data=(maps["in_phase"] / sigma).astype(np.complex64),
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=readout,
        field_of_view=(SIDE * PIXEL_MM, SIDE * PIXEL_MM, SLICE_MM),
        quantity="complex",
        snr_units=True,
    )
    units = {name: 1.0 if name == "r2star" else 1 / sigma for name in CHANNELS}
    made = [computed(echo, maps[n] * np.float32(units[n]), n, "water-fat") for n in CHANNELS]
    return [echo, *made]


def run(items, engine):
    with structlog.testing.capture_logs() as said:
        found = list(SyntheticCt(engine)(iter(items)))
    return found[len(items) :], " ".join(entry.get("reason", "") for entry in said)


@pytest.fixture(scope="module")
def made(items, engine):
    found, reason = run(items, engine)
    assert len(found) == 2, reason
    return found


def test_values_are_near_those_of_ct(made, scene):
    hu = made[0].data[0] - OFFSET_HU
    assert np.median(np.abs(hu - scene.hu)[scene.body]) < 60
    bone = scene.hu > 500
    assert hu[bone].mean() > 300 + hu[scene.body & ~bone].mean()


def test_the_interval_holds_most_voxels(made, scene):
    off = np.abs(made[0].data[0] - OFFSET_HU - scene.hu)
    assert (off > made[1].data[0])[scene.body].mean() < 0.07


def test_it_is_synthetic_mr_and_never_ct(made, engine):
    for image in made:
        assert image.role is Role.SYNTHETIC
        assert "not CT, no measure of bone density" in image.history[-1]
        assert engine.manifest.files["model.onnx"][:12] in image.history[-1]
        assert "Modality" not in image.attributes
    assert made[0].attributes["RescaleIntercept"] == -OFFSET_HU


def reason(items, engine):
    found, said = run(items, engine)
    assert not found
    return said


def test_two_echoes_have_no_r2star(items, engine):
    assert "three or more echoes; missing r2star" in reason(items[:-1], engine)


def test_no_noise_scan(items, engine):
    assert "a known noise" in reason([replace(items[0], snr_units=False), *items[1:]], engine)


def test_too_noisy(items, engine):
    loud = replace(items[0], noise_map=np.full(items[0].data.shape, 20.0, np.float32))
    assert "signal-to-noise" in reason([loud, *items[1:]], engine)


def test_pixels_too_large(items, engine):
    large = [replace(item, field_of_view=(500.0, 500.0, 3.0)) for item in items]
    assert "expected pixels" in reason(large, engine)
