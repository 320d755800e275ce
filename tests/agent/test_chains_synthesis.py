"""Configurations of synthetic contrasts: an exam goes through them as a scanner sends it."""

import numpy as np
import pytest
import structlog.testing

from agent import chains, engines
from agent.config import EngineSettings, Settings
from gadgets.items import Series
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage
from scanner.exam import FRONT_TO_BACK, HEAD_TO_FEET
from scanner.phantom import LumbarSpine
from scanner.sequence import Geometry, Protocol, Sampling, TurboSpinEcho
from scanner.step import make_scanner

SLICES = 2


@pytest.fixture(scope="module")
def exam():
    """T1w and T2w of one patient, 1.6 mm pixels, and a STIR that was acquired."""
    geometry = Geometry(
        (0.0, 0.0, 0.0),
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        (300.0, 300.0),
        (192, 192),
        SLICES,
        4.0,
        4.0,
        phase_oversampling=0.4,
    )
    sequences = {
        "t1_tse_sag": TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0),
        "t2_tse_sag": TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
    }
    scanner = make_scanner(LumbarSpine(), rows=6, columns=1, noise_level=0.5, exam="synthesis")
    sampling = Sampling(acceleration=(2, 1), calibration=(24, 0))
    return scanner.exam_steps([Protocol(n, s, geometry, sampling) for n, s in sequences.items()])


def run(step, name):
    """What leaves a configuration, and the reasons it gives."""
    header = parse_header(step.header_xml)
    with structlog.testing.capture_logs() as said:
        found = list(chains.build(name, header, "uint16", collect=True)(step.readouts()))
    return found, " ".join(f"{entry.get('reason', '')} {entry['event']}" for entry in said)


@pytest.fixture(scope="module")
def stir(exam):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_used", EngineSettings(research=True))
        first, _ = run(exam[0], "synthetic-stir")
        return first, *run(exam[1], "synthetic-stir")


def roles(found):
    return [
        parse_meta(item.attributes)["BoresideRole"]
        for item in found
        if isinstance(item, ImageMessage)
    ]


def test_the_second_measurement_brings_the_synthetic_stir_after_its_own_images(stir):
    first, second, said = stir
    assert roles(first) == ["acquired"] * SLICES
    assert roles(second) == ["acquired"] * SLICES + ["synthetic"] * 2 * SLICES, said


def test_series_leave_before_anything_is_made_of_them_and_hold_no_synthetic_voxel(stir):
    _, second, _ = stir
    left = [item for item in second if isinstance(item, ImageMessage | Series)]
    assert [isinstance(item, Series) for item in left].index(True) == SLICES
    series = left[SLICES]
    shown = np.concatenate([m.data[0] for m in left[:SLICES]]).astype(np.float64)
    assert np.corrcoef(series.data.ravel(), shown.ravel())[0, 1] > 0.9999


def test_synthetic_images_have_the_word_in_their_pixels(stir):
    _, second, _ = stir
    made = [item for item in second if isinstance(item, ImageMessage)][SLICES:]
    assert all(parse_meta(m.attributes)["BurnedInAnnotation"] == "YES" for m in made)
    assert len({int(m.header["image_series_index"]) for m in made}) == 2


@pytest.mark.parametrize("name", ["synthetic-stir", "synthetic-ct"])
def test_networks_that_lose_what_is_subtle_are_off_unless_research_is_allowed(exam, name):
    found, said = run(exam[0], name)
    assert set(roles(found)) == {"acquired"} and "engines.research is off" in said


def test_virtual_enhancement_is_off_unless_the_settings_allow_research(exam, monkeypatch):
    assert Settings().engines.research is False
    found, said = run(exam[0], "virtual-enhancement")
    assert roles(found) == ["acquired"] * SLICES and "engines.research is off" in said
    monkeypatch.setattr(engines, "_used", EngineSettings(research=True))
    found, said = run(exam[0], "virtual-enhancement")
    assert roles(found) == ["acquired"] * SLICES and "is off" not in said
