"""Simulated k-space against Fourier transforms of simple bodies that are known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import j1

import scanner.step
from scanner.coils import CoilArray
from scanner.header import Identity
from scanner.sequence import Geometry, GradientEcho, Protocol, TurboSpinEcho
from scanner.signal import FAT_AMPLITUDE, FAT_SHIFT_PPM
from scanner.step import Step, VirtualScanner, centred_ifft

HZ_PER_PPM = 42.577478518 * 3.0
AXIAL = {"read_dir": (1.0, 0.0, 0.0), "phase_dir": (0.0, 1.0, 0.0)}
LONG = SimpleNamespace(pd=1.0, t1_ms=1e-2, t2_ms=1e9, t2star_ms=1e9, fat_t1_ms=1e-2, fat_t2_ms=1e9)
"""A tissue whose spin echo signal is exactly its proton density."""
IDEAL = TurboSpinEcho(1000.0, 10.0, 10.0, (180.0,) * 4, 200.0)


class Uniform:
    """A coil that sees everything alike."""

    def field(self, points):
        return np.ones(np.shape(points)) * [1.0, 0.0, 0.0]


@pytest.fixture
def scan(monkeypatch):
    """Run a protocol on an object with one uniform coil and ideal tissue; return its step."""
    monkeypatch.setattr(scanner.step, "tissue_table", lambda field_t: (LONG, LONG))

    def run(thing, sequence, geometry):
        coils = CoilArray((Uniform(),), ("Body",), (0.0,))
        machine = VirtualScanner(thing, coils, np.eye(1))
        return Step(machine, Protocol("test", sequence, geometry), Identity(1, "test", 0.0))

    return run


def frequencies(n, fov):
    return (np.arange(n) - n // 2) / fov


def test_a_cylinder_gives_a_bessel_function(scan, ellipsoids):
    centre, radius = np.array([12.0, -7.0]), 40.0
    thing = ellipsoids([((*centre, 0.0), (radius, radius, 1e5), 1, 1.0, 0.0)])
    geometry = Geometry((2.0, 3.0, 0.0), **AXIAL, field_of_view_mm=(160.0, 160.0),
                        matrix=(64, 64), slices=1, thickness_mm=5.0)  # fmt: skip
    kspace = next(scan(thing, IDEAL, geometry).kspace())[0, 0, 0]
    kx, ky = frequencies(128, 320.0), frequencies(64, 160.0)[:, None]
    k = np.maximum(np.hypot(kx, ky), 1e-9)
    disc = radius * j1(2 * np.pi * k * radius) / k
    shift = np.exp(-2j * np.pi * (kx * (centre[0] - 2.0) + ky * (centre[1] - 3.0)))
    expected = 5.0 * disc * shift
    assert np.linalg.norm(kspace - expected) < 0.05 * np.linalg.norm(expected)
    inner = k < 0.05
    assert np.linalg.norm((kspace - expected)[inner]) < 0.01 * np.linalg.norm(expected[inner])


def test_a_sphere_in_a_slab_gives_a_spherical_bessel_function(scan, ellipsoids):
    radius = 30.0
    thing = ellipsoids([((5.0, 0.0, -4.0), (radius,) * 3, 1, 1.0, 0.0)])
    geometry = Geometry((0.0, 0.0, 0.0), **AXIAL, field_of_view_mm=(128.0, 128.0),
                        matrix=(32, 32), slices=32, thickness_mm=4.0, volumetric=True)  # fmt: skip
    sequence = GradientEcho(1000.0, (1e-6,), 90.0, 1000.0)
    kspace = next(scan(thing, sequence, geometry).kspace())[0, 0]
    kz, ky, kx = np.ix_(frequencies(32, 128.0), frequencies(32, 128.0), frequencies(64, 256.0))
    q = 2 * np.pi * radius * np.maximum(np.sqrt(kx**2 + ky**2 + kz**2), 1e-6)
    ball = 4 * np.pi * radius**3 * (np.sin(q) - q * np.cos(q)) / q**3
    expected = ball * np.exp(-2j * np.pi * (5.0 * kx - 4.0 * kz))
    assert np.linalg.norm(kspace - expected) < 0.05 * np.linalg.norm(expected)


def test_what_lies_outside_the_phase_field_of_view_folds_over(scan, ellipsoids):
    geometry = Geometry((0.0, 0.0, 0.0), **AXIAL, field_of_view_mm=(168.0, 168.0),
                        matrix=(64, 64), slices=1, thickness_mm=5.0)  # fmt: skip

    def image(y):
        thing = ellipsoids([((0.0, y, 0.0), (15.0, 15.0, 1e5), 1, 1.0, 0.0)])
        return scan(thing, IDEAL, geometry).truth()[0]

    np.testing.assert_allclose(image(130.0), image(130.0 - 168.0), atol=1e-3 * image(0.0).max())


def centroid_mm(image, fov):
    """First moment of a complex image along its last axis."""
    x = (np.arange(image.shape[-1]) - image.shape[-1] // 2) * fov / image.shape[-1]
    profile = image.sum(axis=tuple(range(image.ndim - 1)))
    return ((x * profile).sum() / profile.sum()).real


def test_fat_is_displaced_along_the_readout_by_its_chemical_shift(scan, ellipsoids):
    geometry = Geometry((0.0, 0.0, 0.0), **AXIAL, field_of_view_mm=(160.0, 160.0),
                        matrix=(64, 64), slices=1, thickness_mm=5.0)  # fmt: skip

    def image(fat_fraction):
        thing = ellipsoids([((0.0, 0.0, 0.0), (30.0, 30.0, 1e5), 1, 1.0, fat_fraction)])
        kspace = next(scan(thing, IDEAL, geometry).kspace())[0, 0, 0]
        return centred_ifft(centred_ifft(kspace, 0), 1)

    mean_hz = FAT_SHIFT_PPM @ FAT_AMPLITUDE / FAT_AMPLITUDE.sum() * HZ_PER_PPM
    expected_pixels = -mean_hz / 200.0
    moved = (centroid_mm(image(1.0), 320.0) - centroid_mm(image(0.0), 320.0)) / (160.0 / 64)
    assert moved == pytest.approx(expected_pixels, abs=0.1)
    assert 1.5 < moved < 2.5  # about 440 Hz over 200 Hz per pixel for the main peak


def test_off_resonance_turns_the_phase_and_displaces_a_gradient_echo(scan, ellipsoids):
    geometry = Geometry((0.0, 0.0, 0.0), **AXIAL, field_of_view_mm=(160.0, 160.0),
                        matrix=(64, 64), slices=1, thickness_mm=5.0)  # fmt: skip
    sequence = GradientEcho(1000.0, (2.0, 5.0), 90.0, 100.0)
    part = ((0.0, 0.0, 0.0), (30.0, 30.0, 1e5), 1, 1.0, 0.0)

    def images(ppm):
        kspace = next(scan(ellipsoids([part], ppm), sequence, geometry).kspace())[:, 0, 0]
        return centred_ifft(centred_ifft(kspace, 1), 2)

    on, off = images(0.0), images(0.5)
    hz = 0.5 * HZ_PER_PPM
    for echo, te_ms in enumerate((2.0, 5.0)):
        turned = off[echo, 32, 64] / on[echo, 32, 64]
        assert np.exp(2j * np.pi * hz * te_ms * 1e-3) == pytest.approx(turned, abs=0.05)
    moved = centroid_mm(off[0] * np.exp(-2j * np.pi * hz * 2e-3), 320.0)
    assert moved == pytest.approx(-hz / 100.0 * 160.0 / 64, abs=0.05)


def test_slices_see_what_lies_in_them(scan, ellipsoids):
    thing = ellipsoids([((0.0, 0.0, 20.0), (30.0, 30.0, 5.0), 1, 1.0, 0.0),
                        ((0.0, 0.0, 0.0), (60.0, 60.0, 1e5), 1, 0.0, 0.0),
                        ((0.0, 0.0, 20.0), (30.0, 30.0, 5.0), 1, 1.0, 0.0)])  # fmt: skip
    geometry = Geometry((0.0, 0.0, 0.0), **AXIAL, field_of_view_mm=(160.0, 160.0),
                        matrix=(64, 64), slices=5, thickness_mm=8.0, gap_mm=2.0)  # fmt: skip
    truth = scan(thing, IDEAL, geometry).truth()
    assert truth.shape == (5, 64, 64) and truth.dtype == np.float32
    energy = (truth**2).sum(axis=(1, 2))
    assert np.argmax(energy) == 4
    assert energy[4] > 50 * energy[:4].max()
