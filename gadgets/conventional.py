"""The conventional reconstruction: from readouts to images ready to send, one gadget after another.

Read this file first; every step is a file of its own, and usable alone:

====================================  ==========================================================
`gadgets.noise.Prewhiten`             noise readouts end here; all others become white noise of
                                      sigma 1: from here on everything is in SNR units
`gadgets.oversampling.                readout into image space, oversampling cut off:
TransformReadout`                     `ReadoutBlock` becomes `HybridBlock`
`gadgets.sort.Sort`                   lines into images: `HybridBlock` becomes `Calibration` (as
                                      soon as its block is whole) and `Frame` (as soon as nothing
                                      more can come)
`gadgets.reconstruct.Reconstruct`     coil compression, sensitivity maps, SENSE or GRAPPA, partial
                                      Fourier: `Frame` becomes `Image`
`gadgets.finish.Finish`               recon matrix, pixels, header and meta: `Image` becomes
                                      `ImageMessage`
====================================  ==========================================================

All of it runs while the scanner still scans; after a frame's last readout only its reconstruction
and finishing are left. What is no readout (waveforms, images, texts) passes through untouched.

    for item in conventional(parse_header(xml))(reader):
        if isinstance(item, ImageMessage):
            write(sink, item)
"""

from collections.abc import Sequence

from gadgets.finish import Finish
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.sort import Sort
from gadgets.stream import Gadget, chain
from protocols.header import Header


def conventional(
    header: Header,
    method: str = "sense",
    maps: Sequence[str] = (),
    pixel_type: str = "uint16",
) -> Gadget:
    """Return the chain from `ReadoutBlock` to `ImageMessage` for Cartesian measurements.

    Parameters
    ----------
    header : Header
    method : str
        "sense" or "grappa", of undersampled frames.
    maps : sequence of str
        Of "g-factor" and "snr": maps to send after the images.
    pixel_type : str
        "uint16" or "float32".

    Raises
    ------
    NotCartesian
        The header has another trajectory.
    HeaderError
        The header lacks a matrix or a field of view.
    ValueError
        Another method, map or pixel type.
    """
    return chain(
        [
            Prewhiten(header),
            TransformReadout(header),
            Sort(header),
            Reconstruct(method, header, noise_maps=bool(maps)),
            Finish(header, pixel_type=pixel_type, maps=maps),
        ]
    )
