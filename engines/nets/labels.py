"""The U-Net that labels sagittal slices of the spine: a class for each pixel, and heat maps.

As in `engines.nets.unet`, half the resolution is traded for channels at the entrance, and the rest
is residual blocks with sums across. It has batch normalisation, because contrasts differ without
limit; at run time that is a constant factor.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


def normalised(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution of 3 x 3 with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """ReLU(x + convolution(ReLU(convolution(x)))), each convolution normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = normalised(channels, channels), normalised(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.second(torch.relu(self.first(x)))
        return torch.relu(x + change)


class LabelUNet(nn.Module):
    """From one image to the probabilities of classes and of landmarks at each pixel.

    Sides must be multiples of ``2 ** len(channels)``.

    Parameters
    ----------
    classes : int
        Of which each pixel is one.
    marks : int
        Heat maps, each independent of all else.
    channels : sequence of int
        At a half, a quarter, ... of the resolution.
    """

    def __init__(
        self, classes: int, marks: int, channels: Sequence[int] = (24, 40, 72, 120)
    ) -> None:
        super().__init__()
        self.classes = classes
        pairs = list(pairwise(channels))
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.head = normalised(4, channels[0])
        self.encoders = nn.ModuleList(Block(c) for c in channels[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.bottom = nn.Sequential(Block(channels[-1]), Block(channels[-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.decoders = nn.ModuleList(Block(c) for c in channels[:-1])
        self.tail = nn.Conv2d(channels[0], 4 * (classes + marks), 3, padding=1)
        start = torch.zeros(4 * (classes + marks))
        start[4 * classes :] = -3.0
        self.tail.bias = nn.Parameter(start)

    def logits(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of odds, (batch, classes + marks, y, x)."""
        x = torch.relu(self.head(self.unshuffle(planes)))
        across = []
        for encoder, down in zip(self.encoders, self.down):
            x = encoder(x)
            across.append(x)
            x = down(x)
        x = self.bottom(x)
        for decoder, up, kept in zip(
            reversed(self.decoders), reversed(self.up), reversed(across), strict=True
        ):
            x = decoder(up(x) + kept)
        found: torch.Tensor = self.shuffle(self.tail(x))
        return found

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return probabilities: of the classes, which add up to 1, then of the marks.

        Parameters
        ----------
        planes : (batch, 1, y, x)

        Returns
        -------
        (batch, classes + marks, y, x)
        """
        found = self.logits(planes)
        classes = torch.softmax(found[:, : self.classes], dim=1)
        return torch.cat([classes, torch.sigmoid(found[:, self.classes :])], dim=1)
