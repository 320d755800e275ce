"""Architectures: `build` makes a PyTorch module of what a manifest says. Needs PyTorch."""

from typing import Any

import torch

from engines.nets.labels import LabelUNet
from engines.nets.synthesis import SynthesisUNet
from engines.nets.unet import BiasFreeUNet

_NETWORKS: dict[str, type[torch.nn.Module]] = {
    "bias-free-unet": BiasFreeUNet,
    "label-unet": LabelUNet,
    "synthesis-unet": SynthesisUNet,
}


def build(architecture: dict[str, Any]) -> torch.nn.Module:
    """Return a module with random parameters.

    Parameters
    ----------
    architecture : dict
        ``name``, and the parameters of that network.

    Raises
    ------
    ValueError
        There is no network of that name.
    """
    parameters = dict(architecture)
    name = parameters.pop("name", None)
    if name not in _NETWORKS:
        raise ValueError(f"expected an architecture of {', '.join(_NETWORKS)}, got {name!r}")
    return _NETWORKS[name](**parameters)
