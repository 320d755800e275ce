"""Receiver noise: correlated between channels, white in time, as strong as the bandwidth makes it.

Noise is complex Gaussian. Its variance per sample goes with the receiver bandwidth, which is one
over the time between two samples. During the noise scan the receiver's filter takes the edges of
the band away, so its variance is `RELATIVE_BANDWIDTH` of what the dwell time says; that is what the
MRD header's ``relativeReceiverNoiseBandwidth`` is for.
"""

import numpy as np

RELATIVE_BANDWIDTH = 0.793


def correlated_noise(
    shape: tuple[int, int],
    covariance: np.ndarray,
    dwell_us: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return noise readouts, complex64 (N, coil, readout).

    Parameters
    ----------
    shape : (2) int
        Readouts and samples.
    covariance : complex (coil, coil)
        Of complex samples at a dwell time of 1 us.
    dwell_us : float
    rng : numpy.random.Generator
    """
    readouts, samples = shape
    factor = np.linalg.cholesky(covariance / (2 * dwell_us)).astype(np.complex64)
    white = rng.standard_normal((len(factor), readouts, samples * 2), np.float32)
    return np.asarray(np.moveaxis(np.tensordot(factor, white.view(np.complex64), 1), 0, 1))


def receiver_filter(samples: int) -> np.ndarray:
    """Return the noise scan's receiver filter over frequency, float32 (samples), FFT order.

    Flat inside, cosine edges; its mean power is `RELATIVE_BANDWIDTH`.
    """
    flat = 2 * RELATIVE_BANDWIDTH - 1
    frequency = np.abs(np.fft.fftfreq(samples)) * 2
    power = 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - flat) / (1 - flat), 0, 1))
    return np.asarray(np.sqrt(power * RELATIVE_BANDWIDTH / power.mean()), np.float32)


def noise_readouts(
    shape: tuple[int, int],
    covariance: np.ndarray,
    dwell_us: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return readouts of the noise scan, complex64 (N, coil, readout); see `correlated_noise`."""
    white = correlated_noise(shape, covariance, dwell_us, rng)
    shaped = np.fft.ifft(np.fft.fft(white, axis=-1) * receiver_filter(shape[1]), axis=-1)
    return shaped.astype(np.complex64)
