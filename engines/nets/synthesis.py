"""The U-Net of synthetic contrasts: from the channels of a slice to one that was not acquired.

As in `engines.nets.unet`, half the resolution is traded for channels at the entrance, and the rest
is residual blocks with sums across. It has additive constants, for Hounsfield units have a zero of
their own. A second way out tells how large the error of every pixel is likely to be.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from engines.nets.unet import ResidualBlock

LEAST_LOG_SCALE = -6.0


class SynthesisUNet(nn.Module):
    """From the channels of a slice to a synthetic one, and the logarithm of its likely error.

    Sides must be multiples of ``2 ** len(channels)``.

    Parameters
    ----------
    inputs : int
        Channels.
    channels : sequence of int
        At a half, a quarter, ... of the resolution.
    blocks : sequence of int
        Residual blocks at each of these, on the way down and again on the way up; the last number
        is that of the bottom.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int] = (24, 40, 72),
        blocks: Sequence[int] = (1, 1, 2),
    ) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.head = nn.Conv2d(4 * inputs, channels[0], 3, padding=1)

        def stage(width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))

        self.encoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.bottom = stage(channels[-1], blocks[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.decoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.tail = nn.Conv2d(channels[0], 4, 3, padding=1)
        self.error = nn.Sequential(
            nn.Conv2d(channels[0], channels[0], 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels[0], 4, 3, padding=1),
        )

    def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the synthetic channel, and the logarithm of the scale of its error.

        Parameters
        ----------
        planes : (batch, inputs, y, x)

        Returns
        -------
        (batch, 1, y, x) each
            Errors have about a Laplace distribution of that scale.
        """
        x = torch.relu(self.head(self.unshuffle(planes)))
        across = []
        for encoder, down in zip(self.encoders, self.down):
            x = encoder(x)
            across.append(x)
            x = torch.relu(down(x))
        x = self.bottom(x)
        for decoder, up, kept in zip(
            reversed(self.decoders), reversed(self.up), reversed(across), strict=True
        ):
            x = decoder(torch.relu(up(x)) + kept)
        x = torch.relu(x)
        made: torch.Tensor = self.shuffle(self.tail(x))
        # What is learnt about the error must not cost anything in the image.
        error: torch.Tensor = self.shuffle(self.error(x.detach()))
        return made, torch.clamp(error, LEAST_LOG_SCALE, 3.0)
