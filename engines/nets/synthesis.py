"""The U-Net of synthetic contrasts: from the channels of a slice to one that was not acquired.

A synthetic contrast is nearly a function of the signals at the same place; which function, its
surroundings tell. So features of each pixel alone are added up with weights which a U-Net gives for
every pixel: edges stay as sharp as they are (after the bilateral grid of Gharbi et al., ACM Trans
Graph 36 (2017) 118). The U-Net trades half the resolution for channels at its entrance, and has the
blocks of `engines.nets.labels` and sums across. A second way out tells how large the error of every
pixel is likely to be.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from engines.nets.labels import Block, normalised

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
    features : int
        Of each pixel.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int] = (24, 40, 72),
        blocks: Sequence[int] = (1, 1, 2),
        features: int = 32,
    ) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.head = normalised(4 * inputs, channels[0])

        def stage(width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width) for _ in range(count)))

        self.encoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.bottom = stage(channels[-1], blocks[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.decoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.local = nn.Sequential(
            nn.Conv2d(inputs, features, 1),
            nn.ReLU(),
            nn.Conv2d(features, features, 1),
            nn.ReLU(),
        )
        self.usual = nn.Conv2d(features, 1, 1)
        self.weights = nn.Conv2d(channels[0], 4 * (features + 1), 3, padding=1)
        nn.init.normal_(self.weights.weight, std=1e-3)
        self.error = nn.Sequential(
            nn.Conv2d(channels[0], channels[0], 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels[0], 4, 3, padding=1),
        )

    def pointwise(self, planes: torch.Tensor) -> torch.Tensor:
        """Return what is usual for such signals, whatever is around them, (batch, 1, y, x)."""
        usual: torch.Tensor = self.usual(self.local(planes))
        return usual

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
            x = down(x)
        x = self.bottom(x)
        for decoder, up, kept in zip(
            reversed(self.decoders), reversed(self.up), reversed(across), strict=True
        ):
            x = decoder(up(x) + kept)
        local = self.local(planes)
        weights = self.shuffle(self.weights(x))
        made = self.usual(local) + (local * weights[:, 1:]).sum(1, keepdim=True) + weights[:, :1]
        # What is learnt about the error must not cost anything in the image.
        error: torch.Tensor = self.shuffle(self.error(x.detach()))
        return made, torch.clamp(error, LEAST_LOG_SCALE, 3.0)
