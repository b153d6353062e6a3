"""How many peaks noise alone makes: false peaks per megapixel against the significance cut."""

from __future__ import annotations

import numpy as np

#: Measured on simulated blank frames (`python -m benchmarks.ladder --kinds rates`), photon
#: counts of 0.3-8 per pixel, 68 million live pixels; an integrating detector has 0.7 times as
#: many. log10 of the reports per million live pixels with at least the given SNR; beyond 5.75
#: extrapolated like the tail of a normal distribution.
_CUTS = np.array([3.5, 4.0, 4.25, 4.5, 4.75, 5.0, 5.25, 5.5, 6.0, 7.0, 10.0])
_LOG_RATE = np.array([2.05, 1.57, 1.27, 0.89, 0.53, 0.13, -0.31, -0.9, -2.2, -5.0, -16.0])


def false_peaks_per_mpx(snr: float | np.ndarray) -> np.ndarray:
    """Return the expected number of false peaks per million live pixels at a cut.

    Parameters
    ----------
    snr : float or ndarray
        Significance cut.

    Returns
    -------
    ndarray
        Expected reports with at least that significance, from noise alone.
    """
    return np.asarray(10.0 ** np.interp(snr, _CUTS, _LOG_RATE))


def snr_cut(false_peaks: float, n_pixels: int) -> float:
    """Return the significance cut that lets noise make `false_peaks` on a frame.

    Parameters
    ----------
    false_peaks : float
        Wanted number of false peaks per frame.
    n_pixels : int
        Live pixels of the frame.

    Returns
    -------
    float
        Cut on the `snr` column, between the ends of the calibration.
    """
    if n_pixels <= 0:
        return float(_CUTS[-1])
    log_rate = np.log10(false_peaks / (n_pixels * 1e-6))
    return float(np.interp(-log_rate, -_LOG_RATE, _CUTS))
