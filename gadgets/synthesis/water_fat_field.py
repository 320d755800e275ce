"""The field map of water-fat imaging, without swaps: which off-resonance each voxel has.

Each voxel's curve over off-resonance (`gadgets.synthesis.water_fat_curves`) has several minima; one
of them is right and the field is smooth. Curves of the voxels of a block add up, without any
cancellation of phases. The choice is made for blocks, on their curves as a whole and not on a few
candidates: dynamic programming over two trees that span the image, once with rows and once with
columns as branches (Bleyer and Gelautz, VISAPP 2008), each of which finds its exact optimum. It
then goes down to voxels level by level, each staying near the level above unless its own curve
speaks against it.

Off-resonance is not wrapped: curves repeat where echo spacing is uniform, and the least deviation
from the scanner's frequency wins.
"""

from typing import Any

import array_api_compat
import numpy as np

from gadgets.synthesis.water_fat_curves import SAMPLES_PER_LABEL, Curves

BLOCK_MM = 8.0
MOST_BLOCKS = 80
"""Along an axis."""
CERTAIN = 25.0
"""Most that one block's data may count against the field of its neighbours, in units of
log-likelihood: the model is never exact, and blocks are many."""
JUMP = 10.0
"""Cost of a jump of the field from one block to the next, and of any larger jump."""
JUMP_HZ = 150.0
CENTRED = 0.1
"""Cost of a block's off-resonance at the end of the range: enough to choose between fields that
the data do not tell apart."""
_CHUNK = 1 << 24
"""Values of curves held at a time."""


def field_map(curves: Curves, terms: Any, voxel_mm: tuple[float, float, float]) -> Any:
    """Find the off-resonance of each voxel, to the resolution of the search.

    Parameters
    ----------
    curves : Curves
    terms : float32 (term, z, y, x)
        Of every voxel.
    voxel_mm : (3) float
        z, y, x.

    Returns
    -------
    float32 (z, y, x)
        Hz.
    """
    blocks: tuple[int, ...] = block_sizes(terms.shape[1:], voxel_mm)
    per_hz = JUMP / JUMP_HZ
    field = _chosen(curves, block_sums(terms, blocks), per_hz)
    while max(blocks) > 1:
        finer = tuple(max(1, size // 2) for size in blocks)
        sums = block_sums(terms, finer)
        factors = tuple(size // fine for size, fine in zip(blocks, finer))
        above = magnified(field, factors, sums.shape[1:], JUMP_HZ / 2)
        field = _refined(curves, sums, above, per_hz)
        blocks = finer
    return field


def _unary(curves: Curves, terms: Any) -> Any:
    """Return the cost of each off-resonance, 0 to `CERTAIN`, float32 (..., label)."""
    xp = array_api_compat.array_namespace(terms)
    fit = curves.fit(terms)
    worse = (xp.max(fit, axis=-1, keepdims=True) - fit) * np.float32(0.5)
    return worse * CERTAIN / (worse + CERTAIN)


def _chosen(curves: Curves, terms: Any, per_hz: float) -> Any:
    """Return the off-resonance of blocks that suits their curves and each other, (z, y, x)."""
    xp = array_api_compat.array_namespace(terms)
    costs = _unary(curves, terms)
    costs += xp.asarray(CENTRED * np.abs(curves.hz) / curves.hz[-1], dtype=xp.float32)
    by_label = xp.reshape(costs, (*costs.shape[:-1], curves.labels, SAMPLES_PER_LABEL))
    whole = spanning_trees(xp.min(by_label, axis=-1), JUMP * (curves.label_hz / JUMP_HZ) ** 2, JUMP)
    label = xp.argmin(whole, axis=-1)
    own = xp.take_along_axis(by_label, label[..., None, None], axis=-2)[..., 0, :]
    sample = label * SAMPLES_PER_LABEL + xp.argmin(own, axis=-1)
    return xp.asarray(curves.hz, dtype=xp.float32)[sample]


def _refined(curves: Curves, terms: Any, above: Any, per_hz: float) -> Any:
    """Return the best off-resonance near that of the level above, float32 (z, y, x)."""
    xp = array_api_compat.array_namespace(terms)
    flat, near = xp.reshape(terms, (terms.shape[0], -1)), xp.reshape(above, (-1,))
    hz = xp.asarray(curves.hz, dtype=xp.float32)
    found = []
    rows = max(1, _CHUNK // len(curves.hz))
    for start in range(0, flat.shape[1], rows):
        part = slice(start, start + rows)
        cost = _unary(curves, flat[:, part])
        cost += xp.abs(near[part, None] - hz) * np.float32(per_hz)
        found.append(hz[xp.argmin(cost, axis=-1)])
    return xp.reshape(xp.concat(found), terms.shape[1:])


def block_sizes(
    shape: tuple[int, ...], voxel_mm: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Return powers of 2 that make blocks of about `BLOCK_MM`, z, y, x."""
    sizes = []
    for n, mm in zip(shape, voxel_mm):
        size = 1
        while 2 * size <= n and (2 * size * mm <= BLOCK_MM or n > MOST_BLOCKS * size):
            size *= 2
        sizes.append(size)
    return sizes[0], sizes[1], sizes[2]


def block_sums(values: Any, blocks: tuple[int, ...]) -> Any:
    """Sum (term, z, y, x) over blocks; the last block of an axis may be a part."""
    xp = array_api_compat.array_namespace(values)
    for axis, size in enumerate(blocks, start=1):
        if size == 1:
            continue
        n = values.shape[axis]
        count = -(-n // size)
        if count * size != n:
            widths = [(0, 0)] * values.ndim
            widths[axis] = (0, count * size - n)
            values = xp.pad(values, widths)
        shape = (*values.shape[:axis], count, size, *values.shape[axis + 1 :])
        values = xp.sum(xp.reshape(values, shape), axis=axis + 1)
    return values


def magnified(field: Any, factors: tuple[int, ...], shape: tuple[int, ...], jump: float) -> Any:
    """Interpolate (z, y, x) to blocks that are smaller by ``factors``, cut to ``shape``.

    Linear; but the nearer block counts alone where neighbours differ by more than ``jump``.
    """
    xp = array_api_compat.array_namespace(field)
    for axis, (factor, size) in enumerate(zip(factors, shape)):
        if factor > 1:
            n = field.shape[axis]
            place = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, n - 1)
            low = np.minimum(place.astype(int), max(n - 2, 0))
            high = np.minimum(low + 1, n - 1)
            part = np.reshape(place - low, [-1 if a == axis else 1 for a in range(field.ndim)])
            share = xp.asarray(part, dtype=field.dtype)
            below, beyond = (xp.take(field, xp.asarray(i), axis=axis) for i in (low, high))
            share = xp.where(xp.abs(beyond - below) > jump, xp.round(share), share)
            field = below + share * (beyond - below)
    return field


def spanning_trees(unary: Any, bend: float, most: float) -> Any:
    """Return the cost of each label by two spanning trees, (z, y, x, label).

    Neighbours whose labels differ by n pay ``bend`` times n squared, and ``most`` at most: a field
    may climb, but not jump.

    Parameters
    ----------
    unary : float32 (z, y, x, label)
    bend, most : float

    Returns
    -------
    float32 (z, y, x, label)
        Mean over both trees of the least cost of the whole image, given the voxel's label.
    """
    total: Any = 0
    for axes in ((0, 1, 2), (0, 2, 1)):
        costs = unary
        for axis in axes:
            costs = chain_costs(costs, axis, bend, most)
        total = total + costs
    return total / 2


def chain_costs(unary: Any, axis: int, bend: float, most: float) -> Any:
    """Return min-marginals of the chains along an axis (dynamic programming both ways)."""
    xp = array_api_compat.array_namespace(unary)
    count = unary.shape[axis]
    if count == 1:
        return unary
    chains = xp.moveaxis(unary, axis, 0)
    both = xp.stack([chains, xp.flip(chains, axis=0)], axis=1)
    message = xp.zeros(both.shape[1:], dtype=unary.dtype)
    messages = [message]
    for step in range(count - 1):
        message = _message(both[step] + message, bend, most)
        messages.append(message)
    arrived = xp.stack(messages)
    total = chains + arrived[:, 0] + xp.flip(arrived[:, 1], axis=0)
    return xp.moveaxis(total, 0, axis)


def _message(costs: Any, bend: float, most: float) -> Any:
    """Return the least cost for the next node's labels, (..., label)."""
    xp = array_api_compat.array_namespace(costs)
    costs = costs - xp.min(costs, axis=-1, keepdims=True)
    least = xp.minimum(costs, np.float32(most))
    shift = 1
    while bend * shift**2 < most and shift < costs.shape[-1]:
        added = costs + np.float32(bend * shift**2)
        left, right = least[..., shift:], least[..., :-shift]
        xp.minimum(left, added[..., :-shift], out=left)
        xp.minimum(right, added[..., shift:], out=right)
        shift += 1
    return least
