"""The quantitative steps as a receiver sees them."""

import numpy as np
import pytest

from protocols.header import parse_header
from protocols.mrd_types import AcquisitionFlag
from scanner.epg import cpmg_echoes
from scanner.quantitative import (
    DELAYS_MS,
    ECHOES_MS,
    MultiDelayMultiEchoStep,
    in_phase_step,
    multi_delay_multi_echo_step,
)
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T
from scanner.signal import fat_phase
from scanner.step import centred_ifft
from scanner.tissues import Label, tissue_table


@pytest.fixture
def csf(ellipsoids):
    return ellipsoids([((0, 0, 0), (60, 60, 60), int(Label.CSF), 1.0, 0.0)])


def test_header_has_both_times_of_each_contrast(body):
    header = parse_header(multi_delay_multi_echo_step(body, matrix=64).header_xml)
    pairs = list(zip(header.sequenceParameters.TI, header.sequenceParameters.TE, strict=True))
    assert pairs == [(delay, echo) for delay in DELAYS_MS for echo in ECHOES_MS]
    assert header.encoding[0].encodingLimits.contrast.maximum == 7
    (saturation,) = header.userParameters.userParameterDouble
    assert (saturation.name, saturation.value) == ("SaturationFlipAngle_deg", 120.0)


def test_every_line_of_every_contrast_comes_once_and_in_time(body):
    step = multi_delay_multi_echo_step(body, matrix=64)
    plan = step.schedule
    assert (np.diff(plan.time_s) >= 0).all()
    keys = np.stack([plan.contrast, plan.image, plan.line])
    assert np.unique(keys, axis=1).shape[1] == len(plan) == 8 * 3 * len(step.lines.ky)
    blocks = [b for b in step.readouts() if b.samples.shape[-1] == 128]
    headers = np.concatenate([block.headers for block in blocks])
    assert set(headers["idx"]["contrast"]) == set(range(8))
    last = np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))
    assert (headers["flags"] & last != 0).sum() == 1


def test_signal_is_that_of_the_saturation_and_the_echo_train(csf):
    """In the middle of a ball of one tissue, contrasts relative to the brightest."""
    efficiency = 0.9
    step = multi_delay_multi_echo_step(csf, matrix=64, slices=1, efficiency=efficiency)
    (kspace,) = step.kspace()
    image = centred_ifft(centred_ifft(kspace[:, :, 0], 2), 3)
    middle = image[:, 0, 32, 64]
    found = (middle * np.conj(middle[-2])).real
    tissue = tissue_table(3.0)[Label.CSF]
    kept = np.cos(np.deg2rad(120 * efficiency))
    train = cpmg_echoes(tissue.t1_ms, tissue.t2_ms, np.full(12, 150.0 * efficiency), 10.0)[0]
    expected = []
    for delay, echo in step.contrasts:
        before = 1 - np.exp(-(4000 - 120 - delay) / tissue.t1_ms)
        recovered = 1 - (1 - kept * before) * np.exp(-delay / tissue.t1_ms)
        expected.append(recovered * train[round(echo / 10) - 1])
    np.testing.assert_allclose(found / found[-2], np.array(expected) / expected[-2], atol=0.02)


def test_an_echo_time_outside_its_part_of_the_train_is_refused(body):
    step = multi_delay_multi_echo_step(body, matrix=64)
    wrong = MultiDelayMultiEchoStep(
        step.scanner, step.protocol, step.identity, echoes_ms=(20.0, 50.0)
    )
    with pytest.raises(ValueError, match="lies outside its part of the train: 70 to 120 ms"):
        _ = wrong.schedule


def test_in_phase_echoes_have_the_main_fat_peak_in_phase(body):
    step = in_phase_step(body, matrix=64, slices=4)
    te_ms = np.array(step.protocol.sequence.te_ms)
    turns = 3.4 * GYROMAGNETIC_MHZ_PER_T * 3.0 * te_ms * 1e-3
    np.testing.assert_allclose(turns, [1, 2, 3, 4], atol=1e-3)
    assert (fat_phase(te_ms, 3.0).real > 0.5).all()
    told = parse_header(step.header_xml).sequenceParameters.TE
    np.testing.assert_allclose(told, te_ms)
