"""What the marrow is made of, from its signal against that of the patient's own marrow.

Each series is divided by what normal marrow would give at the same place: a smooth surface fitted
to all bones takes out the shading of the coil, an offset per bone its own fat fraction. From these
ratios a regression (fitted on simulated exams) tells three shares of each voxel: free water, fat,
and bone without signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from gadgets.triage_anatomy import Anatomy
from gadgets.triage_model import KINDS, WEIGHTINGS, Parameters, quadratic

SMOOTH_MM = 1.3
"""Standard deviation of the smoothing within bone."""
DEEP_MM = 2.5
FIT_VOXELS = 6000
ROUNDS = 8
OFFSET = 0.12
"""A bone's own marrow may differ this much (logarithm) from the smooth surface."""
LEAST_VOXELS = 80
RATIOS = (-1.5, 2.0)
"""Bounds of the logarithm of ratios."""


@dataclass(frozen=True)
class Signal:
    """One exam's series on the voxels of its anatomy.

    Attributes
    ----------
    ratios : dict of weighting to float32 (z, y, x)
        Logarithm of the smoothed signal over that of normal marrow; 0 outside of bone.
    normal : dict of weighting to float32 (z, y, x)
        Signal of normal marrow.
    data : dict of weighting to float32 (z, y, x)
    noise : dict of weighting to float
        Standard deviation.
    shares : dict of kind to float32 (z, y, x)
        See `gadgets.triage_model.KINDS`; 0 outside of bone.
    spread : dict of kind to float
        Of the shares of this patient's own bone, robust.
    """

    ratios: dict[str, np.ndarray]
    normal: dict[str, np.ndarray]
    data: dict[str, np.ndarray]
    noise: dict[str, float]
    shares: dict[str, np.ndarray]
    spread: dict[str, float]

    @cached_property
    def sharp(self) -> np.ndarray:
        """STIR over that of normal marrow, hardly smoothed, outside of bone too."""
        image = ndimage.gaussian_filter(self.data["stir"], (0, 0.6, 0.6))
        return np.asarray(image / self.normal["stir"])


def signal_of(
    anatomy: Anatomy, data: Mapping[str, np.ndarray], parameters: Parameters | None
) -> Signal | None:
    """Return ratios and shares; None where there is too little bone to compare with.

    Parameters
    ----------
    anatomy : Anatomy
    data : mapping of weighting to float32 (z, y, x)
        On its voxels; 0 where the series does not reach.
    parameters : Parameters or None
        Without them, shares are missing.
    """
    deep = anatomy.core & (anatomy.edge_mm > DEEP_MM) & _labelled(anatomy)
    if np.count_nonzero(deep) < 4 * LEAST_VOXELS:
        return None
    core = anatomy.core
    ratios, normal, noise = {}, {}, {}
    for weighting, image in data.items():
        smooth = anatomy.smoothed(image * core, SMOOTH_MM)
        floor = 1e-3 * float(np.median(smooth[deep])) + 1e-12
        log = np.log(np.maximum(smooth, floor))
        surface = _surface(log, deep, anatomy.polynomial)
        surface = surface + _offsets(log - surface, anatomy, deep)
        ratios[weighting] = np.clip(log - surface, *RATIOS) * core
        normal[weighting] = np.exp(surface).astype(np.float32)
        noise[weighting] = _noise(image, core)
    shares, spread = {}, {}
    if parameters is not None:
        shares = _shares(ratios, core, parameters)
        spread = {kind: _spread(share[deep]) for kind, share in shares.items()}
    return Signal(ratios, normal, dict(data), noise, shares, spread)


def _labelled(anatomy: Anatomy) -> np.ndarray:
    """Bone that the label map names: the zones may hold other tissue."""
    known = [n for n, name in enumerate(anatomy.names) if n and "_" not in name]
    return np.isin(anatomy.bones, known)


def _surface(log: np.ndarray, deep: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Fit the basis to most of the bone: what lies off it weighs little (Cauchy weights)."""
    # Every so manieth row and column, of all slices: left and right have the same share.
    step = max(1, round(float(np.sqrt(np.count_nonzero(deep) / FIT_VOXELS))))
    chosen = np.zeros_like(deep)
    chosen[:, ::step, ::step] = deep[:, ::step, ::step]
    where = np.flatnonzero(chosen)
    rows = basis.reshape(len(basis), -1)[:, where].T.astype(float)
    wanted = log.ravel()[where].astype(float)
    weights = np.ones(len(where))
    ridge = np.diag([0.0, *(1e-3 * len(where),) * (rows.shape[1] - 1)])
    found = np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        weighted = rows * weights[:, None]
        found = np.linalg.solve(weighted.T @ rows + ridge, weighted.T @ wanted)
        off = wanted - rows @ found
        scale = 1.4826 * float(np.median(np.abs(off - np.median(off)))) + 1e-3
        weights = 1 / (1 + (off / (1.5 * scale)) ** 2)
    return np.tensordot(found.astype(np.float32), basis, 1)


def _offsets(off: np.ndarray, anatomy: Anatomy, deep: np.ndarray) -> np.ndarray:
    """Return each bone's own median, bounded: a bone that is ill as a whole stays so."""
    table = np.zeros(len(anatomy.names), np.float32)
    off, bones = off[deep], anatomy.bones[deep]
    for n, name in enumerate(anatomy.names):
        values = off[bones == n] if n and "_" not in name else np.zeros(0)
        if len(values) >= LEAST_VOXELS:
            table[n] = np.clip(np.median(values), -OFFSET, OFFSET)
    return table[anatomy.bones]


def _noise(image: np.ndarray, core: np.ndarray) -> float:
    """Return the noise's standard deviation from the diagonal differences of neighbours."""
    mixed = image[:, :-1, :-1] - image[:, 1:, :-1] - image[:, :-1, 1:] + image[:, 1:, 1:]
    inside = core[:, :-1, :-1] & core[:, 1:, :-1] & core[:, :-1, 1:] & core[:, 1:, 1:]
    values = mixed[inside]
    return float(1.4826 * np.median(np.abs(values)) / 2) + 1e-9 if len(values) else 1e-9


def _shares(
    ratios: Mapping[str, np.ndarray], core: np.ndarray, parameters: Parameters
) -> dict[str, np.ndarray]:
    weightings = [name for name in WEIGHTINGS if name in ratios]
    terms = quadratic(np.stack([ratios[name][core] for name in weightings], axis=-1))
    weights = parameters.shares("+".join(weightings))
    found = {}
    for kind, values in zip(KINDS, (terms @ weights).T):
        share = np.zeros(core.shape, np.float32)
        share[core] = np.clip(values, -0.3, 1.2)
        found[kind] = share
    return found


def _spread(values: np.ndarray) -> float:
    """Return the robust standard deviation of what lies below the median: lesions lie above."""
    middle = float(np.median(values))
    below = values[values <= middle]
    return float(1.4826 * np.median(middle - below)) + 1e-4
