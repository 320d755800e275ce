"""Control messages within an MRD stream, through the writer and reader of the wire."""

import io

import numpy as np
import pytest

from protocols.control import (
    ControlError,
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    Outcome,
    UnsupportedVersion,
)
from protocols.control_inband import META_KEY, TEXT_PREFIX, from_meta, from_text, to_meta, to_text
from protocols.geometry import Slab
from protocols.meta import meta_text, parse_meta
from protocols.mrd import Reader
from protocols.mrd_types import IMAGE_HEADER, Close, ImageMessage, Text
from protocols.mrd_write import write

SLAB = Slab(
    centre=(1.25, -1 / 3, 417.0625),
    row=(1.0, 0.0, 0.0),
    column=(0.0, 0.6, -0.8),
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=21,
    thickness_mm=3.0,
)
REQUEST = CoverageRequest(
    id="exam-7/si-joint-signal/1",
    exam="exam-7",
    protocol="lumbar",
    revision=3,
    trigger="si-joint-signal",
    text='Proposal: signal beside the SI joint, "left" <0.8 & more>, \u00fcnd\nSo?',
    steps=(CoverageStep(step="si_stir_cor", slab=SLAB, minutes=4.0),),
    extra_minutes=4.0,
    countdown_s=60.0,
)
MESSAGES = [REQUEST, CoverageReply(id="a1", request=REQUEST.id, outcome=Outcome.ACCEPTED)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_in_band_over_mrd_text_and_image_attributes(message):
    header = np.zeros((), IMAGE_HEADER)
    pixels = np.zeros((1, 1, 2, 2), np.uint16)
    meta = meta_text({"DataRole": "Image", **to_meta(message)})
    stream = io.BytesIO()
    write(
        stream,
        Text("INF scan 3 of 5"),
        to_text(message),
        ImageMessage(header, pixels, meta),
        Close(),
    )
    stream.seek(0)
    plain, text, image, _ = Reader(stream)
    assert from_text(plain) is None
    assert from_text(text) == message
    assert from_meta(parse_meta(image.attributes)) == message
    assert from_meta({"DataRole": "Image"}) is None


def test_other_attributes_of_that_name_are_refused():
    with pytest.raises(ControlError, match="one value of BoresideControl"):
        from_meta({META_KEY: ["{}", "{}"]})


def test_another_version_in_band_is_told_apart():
    with pytest.raises(UnsupportedVersion):
        from_text(Text(TEXT_PREFIX + '{"version": 0, "type": "heartbeat"}'))
