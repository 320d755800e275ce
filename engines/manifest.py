"""What a network's weights say of themselves: `manifest.json` as a model.

A manifest lists the SHA-256 of every other file of its folder and carries a seal, the SHA-256 of
its own content, so that no changed byte goes unnoticed. Against intent only a signature helps
(`engines.store`).
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"
VERSION_PATTERN = r"^\d+(\.\d+)*$"
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Model):
    """An input or an output.

    Attributes
    ----------
    axes : tuple of str
        Such as ``("batch", "channel", "y", "x")``; empty for a scalar.
    channels : tuple of str
        What each channel holds.
    scale : str
        What 1 means.
    """

    name: str
    axes: tuple[str, ...]
    channels: tuple[str, ...] = ()
    dtype: Literal["float32"] = "float32"
    scale: str = ""


ACCELERATION_TOLERANCE = 0.05
"""Part by which the net acceleration may pass the nominal limit: a random sampling of nominal
R = 8 does not have exactly an eighth of the lines."""


class Limits(_Model):
    """What a network was trained for; outside, the conventional way is taken.

    Attributes
    ----------
    snr : tuple of 2 float
        99th percentile of the magnitude over the median noise sigma per real channel.
    sigma : tuple of 2 float
        Noise sigma per real channel, of any pixel with signal, in the scale of the input planes.
    side : tuple of 2 int
        Pixels along y and along x.
    pixels : int
        Of one plane.
    acceleration : tuple of 2 float
        Net: encoded lines over acquired lines, calibration lines and partial Fourier included
        (reconstruction only). The upper limit is nominal: see `ACCELERATION_TOLERANCE`.
    coils : tuple of 2 int
        Receive channels (reconstruction only).
    """

    snr: tuple[float, float] = (0.0, 1e6)
    sigma: tuple[float, float] = (0.0, 1e6)
    side: tuple[int, int] = (1, 4096)
    pixels: int = 1 << 22
    acceleration: tuple[float, float] = (1.0, 1e3)
    coils: tuple[int, int] = (1, 1 << 16)

    def allow_acceleration(self, net: float) -> bool:
        """Return whether a net acceleration is within limits and tolerance."""
        least, most = self.acceleration
        return least <= net <= most * (1 + ACCELERATION_TOLERANCE)


class Manifest(_Model):
    """`manifest.json` of one network.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        The first of each is ``planes``. Inputs have these names in `model.onnx`, outputs this
        order: there no output can have the name of an input.
    architecture : dict
        What `engines.nets` needs to build it: its name and its parameters.
    parameters : dict
        What goes with the weights and is not in them: number of steps, data-consistency weights.
    multiple_of : int
        y and x of the planes must be multiples of it.
    files : dict
        SHA-256, in hexadecimal, by file name.
    training : dict
        Recipe: data, losses, command.
    metrics : dict
        Measured on held-out data.
    """

    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=VERSION_PATTERN)
    kind: Literal["denoiser", "regulariser", "labels", "synthesis"]
    architecture: dict[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    multiple_of: int = Field(default=8, ge=1)
    parameters: dict[str, Any] = {}
    limits: Limits = Limits()
    training: dict[str, Any] = {}
    seed: int = 0
    metrics: dict[str, Any] = {}
    licence: str
    files: dict[Annotated[str, Field(pattern=FILE_PATTERN)], str] = {}

    @property
    def label(self) -> str:
        """Name, version and the first digits of the network's SHA-256."""
        return f"{self.name} {self.version} ({self.files.get('model.onnx', '')[:12]})"


def sealed(manifest: Manifest) -> bytes:
    """Return the text of `manifest.json`, with its seal."""
    fields = manifest.model_dump(mode="json")
    return json.dumps({**fields, "seal": _digest(fields)}, indent=2).encode() + b"\n"


def parse_manifest(text: bytes) -> Manifest:
    """Return the manifest of a `manifest.json`.

    Raises
    ------
    ValueError
        It is not one (`pydantic.ValidationError` is a ValueError), or its seal is broken.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("manifest.json: expected a JSON object")
    seal = fields.pop("seal", None)
    if seal != _digest(fields):
        raise ValueError(
            f"manifest.json: expected its content to have the seal {seal}, found {_digest(fields)}:"
            " it was changed after it was written"
        )
    return Manifest.model_validate_json(json.dumps(fields))


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
