"""The whole unrolled reconstruction in PyTorch: on a GPU one CUDA graph, replayed for every slice.

The steps are those of `engines.unrolled`, on tensors: data consistency in complex64 by cuFFT, the
network in the precision of its engine, and between them nothing that the host must wait for. On the
CPU the same function runs step by step. A TensorRT engine takes the network's place unchanged; that
is not captured, for nobody has seen it done.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from engines.engine import LoadedEngine
from engines.manifest import Manifest
from engines.torch_runtime import Graphs, TorchSession, as_array, as_tensor
from engines.unrolled import Schedule, levels, planes_across, unrolled

BATCH_PIXELS = 1 << 22
"""Pixels of the slices of a slab that go through the network at once: bounds its memory."""

COILS = 4
"""Coils are filled up with empty ones to a multiple of it: so there are fewer graphs."""


class UnrolledTorch:
    """Unrolled reconstructions on the device of an engine that runs in PyTorch.

    Parameters
    ----------
    session : TorchSession
        Of the engine.
    manifest : Manifest
        Of its network.
    schedule : Schedule
    graphs : bool
        False leaves graphs away: to compare.
    """

    def __init__(
        self, session: TorchSession, manifest: Manifest, schedule: Schedule, graphs: bool = True
    ) -> None:
        self._session = session
        self._manifest = manifest
        self._names = [spec.name for spec in manifest.outputs[1:]]
        self._schedule = schedule
        self._graphs = graphs and session.graphs
        self._run = Graphs(self._steps, self._graphs)

    def warm_up(self, shape: tuple[int, int, int, int]) -> None:
        """Make the graph for maps (coil, z, y, x): the first image is not to be the slowest."""
        if self._graphs:
            ones = np.ones(shape, np.complex64)
            self(ones, np.ones(shape[1:3], bool), ones, ones[0], ones[0].real)

    def __call__(
        self, kspace: Any, mask: np.ndarray, maps: Any, start: Any, noise_map: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Reconstruct one image or slab.

        Parameters
        ----------
        kspace, mask, maps, start, noise_map
            As in `engines.unrolled.unrolled`.

        Returns
        -------
        image : complex64 (z, y, x)
            Of the kind and on the device of ``start``.
        further : dict
            What else the network put out in the last step, by name: planes, padded, across
            `engines.unrolled.planes_across`.
        """
        numbers = (np.float32(value) for value in levels(start, noise_map))
        given = (kspace, mask, maps, start, noise_map, *numbers)
        tensors = [as_tensor(array, self._session.device) for array in given]
        for place in (0, 2):
            tensors[place] = _filled(tensors[place])
        image, *further = (as_array(found, start) for found in self._run(*tensors))
        return image, dict(zip(self._names, further, strict=True))

    def _steps(
        self,
        kspace: torch.Tensor,
        mask: torch.Tensor,
        maps: torch.Tensor,
        start: torch.Tensor,
        noise_map: torch.Tensor,
        sigma: torch.Tensor,
        scale: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        further: list[torch.Tensor] = []

        def network(planes: torch.Tensor) -> torch.Tensor:
            batch = max(1, BATCH_PIXELS // (planes.shape[2] * planes.shape[3]))
            parts = [self._session.forward(part) for part in planes.split(batch)]
            denoised, *further[:] = (torch.cat(outputs) for outputs in zip(*parts))
            return denoised

        image = unrolled(
            kspace,
            mask,
            maps,
            start,
            noise_map,
            network,
            self._schedule,
            multiple_of=self._manifest.multiple_of,
            known=(sigma, scale),
            across=planes_across(start.shape, self._manifest),
        )
        return (image, *further)


@lru_cache(maxsize=4)
def in_torch(engine: LoadedEngine, schedule: Schedule) -> UnrolledTorch:
    """Return the reconstructions of an engine, once per process: their graphs stay.

    Raises
    ------
    ValueError
        The engine does not run in PyTorch.
    """
    if not isinstance(engine.session, TorchSession):
        raise ValueError(f"expected an engine that runs in PyTorch, got {engine.runtime}")
    return UnrolledTorch(engine.session, engine.manifest, schedule)


def _filled(coils: torch.Tensor) -> torch.Tensor:
    """Return (coil, z, y, x) with empty coils up to a multiple of `COILS`."""
    missing = -len(coils) % COILS
    return torch.cat([coils, coils.new_zeros((missing, *coils.shape[1:]))]) if missing else coils
