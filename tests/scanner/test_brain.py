"""The real brain k-space on the wire: every acquired sample is a readout, at its place."""

import numpy as np
import pytest

from protocols.header import encodings, parse_header
from protocols.mrd_types import AcquisitionFlag
from scanner.brain import FILE_NAME, brain_messages, full_centre


@pytest.fixture(scope="module")
def plane(shared_data):
    return shared_data / FILE_NAME


def test_the_lines_put_back_in_place_are_the_file(plane):
    header, *blocks = brain_messages(plane)
    (encoding,) = encodings(parse_header(header.xml))
    _, ny, nz = encoding.encoded_matrix
    kspace = np.zeros((8, ny, nz), np.complex64)
    for block in blocks:
        idx = block.headers["idx"]
        kspace[:, idx["kspace_encode_step_1"], idx["kspace_encode_step_2"]] = block.samples[
            ..., 0
        ].T
    np.testing.assert_array_equal(kspace, np.load(plane))


def test_each_line_comes_once_and_the_last_says_so(plane):
    _, *blocks = brain_messages(plane)
    headers = np.concatenate([block.headers for block in blocks])
    assert headers["scan_counter"].tolist() == list(range(1, len(headers) + 1))
    last = headers["flags"] & np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT) != 0
    assert np.flatnonzero(last).tolist() == [len(headers) - 1]


def test_full_centre_is_the_greatest_sampled_block():
    mask = np.zeros((40, 30), bool)
    mask[20 - 5 : 20 + 5, 15 - 3 : 15 + 3] = True
    assert full_centre(mask) == (6, 6)
    assert full_centre(np.ones((8, 6), bool)) == (6, 6)
    assert full_centre(np.zeros((8, 6), bool)) == (0, 0)
