"""The page: images stand upright whatever way they were acquired."""

import numpy as np
import pytest

from scanner.montage import BACKGROUND, TILE, Row, draw, even_out, upright, window

LEFT, POSTERIOR, HEAD = np.eye(3)
PLANES = {
    "sagittal": (POSTERIOR, -HEAD),
    "coronal": (LEFT, -HEAD),
    "axial": (LEFT, POSTERIOR),
}


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_any_acquired_direction_comes_out_as_radiologists_look_at_it(plane, swap, signs):
    """A ramp towards the screen's right and a steeper one downwards, sampled any way round."""
    screen_right, screen_down = PLANES[plane]
    tilt = 0.2 * np.cross(screen_right, screen_down)
    right, down = (screen_down, screen_right) if swap else (screen_right, screen_down)
    right, down = signs[0] * right + tilt, signs[1] * down - tilt
    y, x = np.mgrid[-2:3, -3:4]
    where = x[..., None] * right + y[..., None] * down
    seen = upright(where @ (screen_right + 10 * screen_down), right, down)
    assert (np.diff(seen, axis=1) > 0).all()
    assert (np.diff(seen, axis=0) > 5).all()


def test_the_window_spans_black_to_white_and_ignores_outliers():
    image = np.linspace(0, 1, 10000).reshape(100, 100)
    image[0, 0] = 1e6
    grey = window(image)
    assert grey.min() == 0 and grey.max() == 255
    assert int(grey[50, 0]) == pytest.approx(127, abs=8)


def test_shading_is_taken_out_and_detail_stays():
    x = np.tile(np.arange(200), (200, 1))
    detail = 1 + 0.3 * (-1.0) ** (x // 4)
    shaded = detail * np.exp(-x / 60)
    middle = even_out(shaded)[40:-40, 40:-40]
    columns = middle.mean(axis=0)
    assert np.ptp(shaded[40:-40, 40:-40].mean(axis=0)) / shaded[40:-40, 40:-40].mean() > 2
    smooth = np.convolve(columns, np.ones(8) / 8, "valid")
    assert np.ptp(smooth) / smooth.mean() < 0.8
    assert (columns[::8] > 1.5 * columns[4::8]).all()


def test_a_page_has_a_tile_for_each_image():
    white = np.pad(np.ones((20, 10)), 1)
    page = np.asarray(draw("t", "s", [Row("T1", ["R 4"], [("mid", white)] * 2)] * 3))
    assert tuple(page[-1, 0]) == BACKGROUND
    assert (page[:, -TILE // 2] > 100).all(axis=-1).sum() > 3 * 0.8 * TILE
