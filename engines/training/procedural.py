"""Images made of nothing: random scenes with the statistics of real images.

Dead leaves (shapes of all sizes that cover each other; Lee, Mumford and Huang, Int J Comput Vis 41
(2001) 35) have the edges and the scale invariance of natural images, and train denoisers nearly as
well (Achddou et al., SSVM 2021). Here leaves are ellipses, polygons, shells and strips with 1/f
textures and gradients, often within a body on an empty background. Some scenes have ladders: what
repeats along an axis (discs, ribs, folia) is rare among dead leaves.
"""

import numpy as np
import scipy.fft


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a random field with a power-law spectrum, float32 (size, size), unit variance."""
    white = rng.standard_normal((size, size), np.float32)
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 3) if rng.random() < 0.4 else 1.0
    along, across = kx * np.cos(angle) + ky * np.sin(angle), ky * np.cos(angle) - kx * np.sin(angle)
    radius = np.sqrt((along * stretch) ** 2 + (across / stretch) ** 2)
    radius = np.maximum(radius, rng.uniform(0.5, 4) / size)
    gain = (radius ** -rng.uniform(0.8, 2.2)).astype(np.float32)
    gain[0, 0] = 0
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * gain, s=(size, size))
    return np.asarray(field / field.std(), np.float32)


def smooth_field(rng: np.random.Generator, size: int, waves: float) -> np.ndarray:
    """Return a field of about ``waves`` blobs per side, float32 (size, size), unit variance."""
    nodes = max(4, round(2 * waves) + 3)
    coarse = rng.standard_normal((nodes, nodes), np.float32)
    place = np.linspace(0, nodes - 1.001, size, dtype=np.float32)
    low = place.astype(int)
    part = place - low
    weight = np.zeros((size, nodes), np.float32)
    ramp = part * part * (3 - 2 * part)
    weight[np.arange(size), low] = 1 - ramp
    weight[np.arange(size), np.minimum(low + 1, nodes - 1)] += ramp
    field = weight @ coarse @ weight.T
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def _inside(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """Return how much of each pixel a random shape around the origin covers, 0 to 1."""
    angle, squash = rng.uniform(0, np.pi), rng.uniform(0.3, 1.0)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.random()
    if kind < 0.45:
        distance = radius * squash * (1 - np.hypot(u / radius, v / (radius * squash)))
    elif kind < 0.75:
        corners = rng.integers(3, 8)
        turns = 2 * np.pi * (np.arange(corners) + rng.uniform(0, 0.6, corners)) / corners
        distance = np.min(
            [
                radius * rng.uniform(0.4, 0.9) - u * np.cos(t) - v * np.sin(t) / squash
                for t in turns
            ],
            axis=0,
        )
    elif kind < 0.9:
        r = np.hypot(u, v / squash)
        width = max(0.7, radius * rng.uniform(0.03, 0.2))
        distance = width / 2 - np.abs(r - radius * 0.8)
    else:
        bend = rng.uniform(-1, 1) / radius
        width = max(0.6, radius * rng.uniform(0.01, 0.08))
        distance = np.minimum(width - np.abs(v + bend * u * u / 2), radius - np.abs(u))
    return np.asarray(np.clip(distance + 0.5, 0, 1), np.float32)


def _add_ladder(rng: np.random.Generator, image: np.ndarray, levels: np.ndarray) -> None:
    """Draw a bent column with rungs across it, alike but not the same, into a scene."""
    size = len(image)
    period = np.exp(rng.uniform(*np.log((3, 45))))
    width = period * rng.uniform(0.8, 2.5)
    centre, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
    y, x = np.arange(size)[:, None] - centre[0], np.arange(size)[None] - centre[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    across = across + rng.uniform(-0.6, 0.6) / size * along**2
    column = np.clip(width / 2 - np.abs(across) + 0.5, 0, 1)
    number = np.rint(along / period).astype(int) + size
    shift, tilt, thick = (rng.normal(0, s, 2 * size) for s in (0.06, 0.1, 0.25))
    bright = rng.choice(levels) * (1 + 0.15 * rng.standard_normal(2 * size))
    thickness = np.maximum(0.7, period * rng.uniform(0.08, 0.5) * np.exp(thick))[number]
    off = np.abs(along - (number - size + shift[number]) * period - tilt[number] * across)
    rung = column * np.clip(thickness / 2 - off + 0.5, 0, 1)
    if rng.random() < 0.6:
        image += column * (rng.choice(levels) - image)
    image += rung * (np.abs(bright)[number] - image)


def scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a random scene, complex64 (size, size): magnitudes up to about 1.

    Its phase is only that by which leaves differ from each other; mostly there is none.
    """
    textures = [texture(rng, size) for _ in range(3)]
    rough, levels = rng.uniform(0.0, 0.35), rng.uniform(0.05, 1.0, rng.integers(4, 14))
    phases = rng.random() < 0.2
    image = np.full((size, size), rng.choice(levels), np.complex64)
    image *= 1 + rough * textures[0]
    exponent = rng.uniform(1.5, 3.2)
    low, high = rng.uniform(1.5, 6.0), size * rng.uniform(0.08, 0.4)
    for u in np.sort(rng.random(int(rng.integers(40, 500)))):
        # Large leaves first, so that small ones are seen.
        a, b = high ** (1 - exponent), low ** (1 - exponent)
        radius = float((a + (b - a) * u) ** (1 / (1 - exponent)))
        cy, cx = rng.uniform(0, size, 2)
        reach = int(radius * 1.5) + 3
        y0, y1 = max(0, int(cy) - reach), min(size, int(cy) + reach)
        x0, x1 = max(0, int(cx) - reach), min(size, int(cx) + reach)
        y, x = np.arange(y0, y1)[:, None] - cy, np.arange(x0, x1)[None] - cx
        cover = _inside(rng, y, x, radius)
        here = (slice(y0, y1), slice(x0, x1))
        slope = rng.normal(0, 0.3 / radius, 2) * (rng.random() < 0.5)
        fill = rng.choice(levels) * (1 + slope[0] * y + slope[1] * x).astype(np.float32)
        fill = fill * (1 + rng.uniform(0, 2 * rough) * textures[rng.integers(3)][here])
        if phases:
            fill = fill * np.exp(1j * rng.normal(0, 0.7))
        image[here] += cover * (fill - image[here])
    for _ in range(rng.choice(4, p=[0.5, 0.2, 0.15, 0.15])):
        _add_ladder(rng, image, levels)
    if rng.random() < 0.7:
        edge = smooth_field(rng, size, rng.uniform(1, 3))
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        half_y, half_x = rng.uniform(0.5, 1.3, 2)
        distance = 1 - np.hypot(axis[:, None] / half_y, axis[None] / half_x) + 0.1 * edge
        image *= np.clip(distance * size / 4 + 0.5, 0, 1)
    if rng.random() < 0.5:
        magnitude = np.abs(image)
        image *= (magnitude + 1e-3) ** (rng.uniform(0.6, 1.8) - 1)
    return image
