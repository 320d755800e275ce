"""A small U-Net without additive constants: the denoiser, and the regulariser of reconstruction.

Without biases the network is homogeneous: scaling image and noise map scales the output. A network
of this kind treats noise levels which it never saw as well as those it did (Mohan et al., ICLR
2020, arXiv 1906.05478). Half the resolution is traded for channels at the entrance (PixelUnshuffle;
Zhang et al., FFDNet, IEEE Trans Image Process 27 (2018) 4608), which is what makes it cheap, and
the rest follows DRUNet (Zhang et al., IEEE Trans Pattern Anal 44 (2022) 6360): residual blocks,
strided convolutions down and up, sums across. It predicts the noise.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

FLOOR = 1e-3
"""Least error that may be predicted, as a part of the noise sigma."""


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class ResidualBlock(nn.Module):
    """x + convolution(ReLU(convolution(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)
        nn.init.normal_(self.second.weight, std=1e-2 / channels**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise: torch.Tensor = self.second(torch.relu(self.first(x)))
        return x + noise


class BiasFreeUNet(nn.Module):
    """From real part, imaginary part and noise sigma to the denoised real and imaginary part.

    Sides must be multiples of ``2 ** len(channels)``.

    Parameters
    ----------
    channels : sequence of int
        At a half, a quarter, ... of the resolution.
    blocks : sequence of int
        Residual blocks at each of these, on the way down and again on the way up; the last number
        is that of the bottom.
    uncertainty : bool
        Also predict the logarithm of the standard deviation of what is still wrong.
    limit : float or None
        Most that is taken away from real or imaginary part of a pixel, in sigmas: what the network
        makes of an image is never further from it than that.
    """

    def __init__(
        self,
        channels: Sequence[int] = (40, 80, 112),
        blocks: Sequence[int] = (1, 1, 2),
        uncertainty: bool = False,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.uncertainty, self.limit = uncertainty, limit
        pairs = list(pairwise(channels))
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.head = _conv(12, channels[0])

        def stage(width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))

        self.encoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairs)
        self.bottom = stage(channels[-1], blocks[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairs)
        self.decoders = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks))
        self.tail = _conv(channels[0], 8)
        nn.init.normal_(self.tail.weight, std=1e-3)
        if uncertainty:
            self.error = _conv(channels[0], 4)
            nn.init.normal_(self.error.weight, std=1e-2)

    def forward(self, planes: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return the denoised planes, and the logarithm of their error where it is predicted.

        Parameters
        ----------
        planes : (batch, 3, y, x)

        Returns
        -------
        (batch, 2, y, x), and (batch, 1, y, x) with ``uncertainty``
        """
        x = self.head(self.unshuffle(planes))
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
        noise: torch.Tensor = self.shuffle(self.tail(x))
        if self.limit is not None:
            most = self.limit * planes[:, 2:]
            noise = torch.maximum(torch.minimum(noise, most), -most)
        denoised = planes[:, :2] - noise
        if not self.uncertainty:
            return denoised
        # What was learnt about the error must not cost anything in the image.
        error = torch.abs(self.shuffle(self.error(x.detach())))
        return denoised, torch.log(error + FLOOR * planes[:, 2:] + 1e-6)
