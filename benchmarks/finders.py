"""Peak finders behind one interface: ours, OM's peakfinder8, a plain matched filter.

A finder has a ``name``, ``run(frame)`` at permissive cuts, which gives a whole
curve, and ``run_default(frame)`` as it is meant to be used. Both return a
DataFrame with ``row, col, score``; a finder whose cut changes more than the
selection (peakfinder8) adds ``cut`` and stacks one search per cut.
A frame is anything with ``image, good, radius, radius_or_middle, asics``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

OM_REMEDY = "pip install --no-deps ondamonitor (its pinned numpy is not needed for peakfinder8)"


class FrameLike(Protocol):
    """What a finder needs of a frame."""

    @property
    def image(self) -> NDArray[Any]:
        """Pixel values in the native dtype."""

    @property
    def good(self) -> NDArray[np.bool_]:
        """True where the pixel may be used."""

    @property
    def asics(self) -> tuple[int, int]:
        """Equal panels along (ss, fs)."""

    @property
    def radius(self) -> NDArray[np.float32] | None:
        """Distance from the beam centre in pixels, None when unknown."""

    @property
    def radius_or_middle(self) -> NDArray[np.float32]:
        """Distance from the beam centre, or from the middle of the frame."""


class Finder(Protocol):
    """What the benchmarks need of a finder."""

    name: str

    def run(self, frame: FrameLike) -> pd.DataFrame:
        """Search at permissive cuts."""

    def run_default(self, frame: FrameLike) -> pd.DataFrame:
        """Search as a user would who changes nothing."""


def _table(row: Any, col: Any, score: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"row": np.asarray(row, float), "col": np.asarray(col, float), "score": score}, dtype=float
    )


class OMPeakfinder8:
    """Peakfinder8 of OM (package ``ondamonitor``), swept over its minimum SNR.

    The compiled function is called directly: its Python class needs numpy < 2.

    Parameters
    ----------
    min_pix_count : int
        Fewest pixels of a peak (CrystFEL and OM: 2).
    fast : bool
        Radial statistics from at most 100 pixels per radius.
    """

    CUTS = (2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 60)

    def __init__(self, min_pix_count: int = 2, *, fast: bool = False) -> None:
        self.min_pix_count = min_pix_count
        self.fast = fast
        self.name = f"om-pf8{'-fast' if fast else ''}-{min_pix_count}px"
        self._samples: tuple[Any, Any, Any] = (None, None, None)

    def _radial_samples(self, radius: NDArray[np.float32]) -> tuple[Any, Any]:
        """Return (pixel index, radius bin) of at most 100 random pixels per 1-px bin."""
        if self._samples[0] is not radius:
            bins = np.rint(radius).astype(np.int32).ravel()
            shuffled = np.random.default_rng(0).permutation(bins.size)
            order = shuffled[np.argsort(bins[shuffled], kind="stable")]
            first = np.searchsorted(bins[order], bins[order])
            chosen = order[np.arange(bins.size) - first < 100].astype(np.int32)
            self._samples = (radius, chosen, bins[chosen])
        return self._samples[1], self._samples[2]

    def search(
        self, image: NDArray[Any], good: NDArray[np.bool_], radius: NDArray[np.float32],
        min_snr: float, asics: tuple[int, int] = (1, 1),
    ) -> pd.DataFrame:  # fmt: skip
        """Find peaks at one minimum SNR, threshold 0, at most 200 pixels, background radius 3."""
        try:
            from om.algorithms._crystallography import peakfinder_8
        except ImportError as error:
            raise ImportError(f"OM's peakfinder8 is not installed: {OM_REMEDY}") from error
        pixels, bins = self._radial_samples(radius) if self.fast else (None, None)
        rows, cols = image.shape
        found = peakfinder_8(
            100_000, image.astype(np.float32), good.view(np.int8), radius,
            0 if pixels is None else len(pixels), pixels, bins, int(self.fast),
            cols // asics[1], rows // asics[0], asics[1], asics[0],
            0.0, min_snr, self.min_pix_count, 200, 3,
        )  # fmt: skip
        return _table(found[1], found[0], found[6])

    def run(self, frame: FrameLike) -> pd.DataFrame:
        """Search at all `CUTS`."""
        radius = frame.radius_or_middle
        parts = [
            self.search(frame.image, frame.good, radius, cut, frame.asics).assign(cut=cut)
            for cut in self.CUTS
        ]
        return pd.concat(parts, ignore_index=True)

    def run_default(self, frame: FrameLike) -> pd.DataFrame:
        """Search at minimum SNR 5, CrystFEL's default."""
        return self.search(frame.image, frame.good, frame.radius_or_middle, 5.0, frame.asics)


class MatchedFilter:
    """A plain matched filter: radial z-score, 5x5 Gaussian kernel, 5x5 local maxima.

    Mean and sigma per 1-px radius bin, five rounds of clipping at 3 sigma; the
    kernel (sigma 1 px) is normalised to unit noise over the good pixels it covers.
    """

    name = "matched-filter"
    N_BEST, DEFAULT = 20_000, 5.5

    def __init__(self, sigma: float = 1.0) -> None:
        axis = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
        self._axis = axis / np.sqrt((axis**2).sum())

    def _smooth(self, z: NDArray[Any], axis: NDArray[Any]) -> NDArray[Any]:
        for dim in (0, 1):
            z = ndimage.correlate1d(z, axis, axis=dim, mode="constant")
        return z

    def filtered(self, frame: FrameLike) -> NDArray[Any]:
        """Return the filtered z-score in units of its noise, -inf at masked pixels."""
        z = radial_z(frame.image, frame.good, frame.radius_or_middle)
        norm = self._smooth(frame.good.astype(np.float32), self._axis**2)
        z = self._smooth(z, self._axis) / np.sqrt(np.maximum(norm, 1e-3))
        z[~frame.good] = -np.inf
        return z

    def run(self, frame: FrameLike) -> pd.DataFrame:
        """Return the `N_BEST` highest maxima."""
        z = self.filtered(frame)
        row, col = np.nonzero((z > 0) & (z == ndimage.maximum_filter(z, 5)))
        best = np.argsort(-z[row, col])[: self.N_BEST]
        return _table(row[best], col[best], z[row[best], col[best]])

    def run_default(self, frame: FrameLike) -> pd.DataFrame:
        """Return all maxima above `DEFAULT`, about one false in 10 Mpx of Gaussian noise."""
        found = self.run(frame)
        return found[found["score"] >= self.DEFAULT].reset_index(drop=True)


def radial_z(
    image: NDArray[Any], good: NDArray[np.bool_], radius: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (value - mean) / sigma with clipped statistics per 1-px radius bin, 0 where masked."""
    bins = np.rint(radius[good]).astype(np.intp)
    values = image[good].astype(np.float64)
    n_bins = int(bins.max(initial=0)) + 1
    keep = np.ones(values.size, bool)
    mean, sigma = np.zeros(n_bins), np.zeros(n_bins)
    for _ in range(5):
        count = np.maximum(np.bincount(bins[keep], minlength=n_bins), 1)
        mean_new = np.bincount(bins[keep], values[keep], n_bins) / count
        square = np.bincount(bins[keep], (values[keep] - mean_new[bins[keep]]) ** 2, n_bins)
        sigma_new = np.sqrt(square / count)
        # Rare photons: clipping them all would leave no noise at all.
        usable = sigma_new > 0
        mean, sigma = np.where(usable, mean_new, mean), np.where(usable, sigma_new, sigma)
        keep = np.abs(values - mean[bins]) <= 3 * sigma[bins]
    floor = np.median(sigma[sigma > 0]) * 0.1 if (sigma > 0).any() else 1.0
    z = np.zeros(image.shape, np.float32)
    z[good] = (values - mean[bins]) / np.maximum(sigma, floor)[bins]
    return z


class LocalMatchedFilter(MatchedFilter):
    """`MatchedFilter` after subtraction of the local mean z in a 17x17 box.

    Steps and slopes of the background (shadows, a centre that is off) no longer pass
    as signal; the stricter rival on frames with a structured background.
    """

    name = "matched-filter-local"

    def filtered(self, frame: FrameLike) -> NDArray[Any]:
        """Return the filtered z-score in units of its noise, -inf at masked pixels."""
        z = radial_z(frame.image, frame.good, frame.radius_or_middle)
        good = frame.good.astype(np.float32)
        # The spot itself must not raise the mean it is compared with.
        mean = ndimage.uniform_filter(np.clip(z, -3, 3), 17, mode="constant")
        share = ndimage.uniform_filter(good, 17, mode="constant")
        z = (z - mean / np.maximum(share, 0.01)) * good
        norm = self._smooth(good, self._axis**2)
        z = self._smooth(z, self._axis) / np.sqrt(np.maximum(norm, 1e-3))
        z[~frame.good] = -np.inf
        return z


class NapariXtal:
    """Our default method, at its most permissive setting, scored by its significance.

    Parameters
    ----------
    **changes
        Parameters of `napari_xtal.PeakFinderParams` that differ from their defaults.
    """

    def __init__(self, name: str = "napari-xtal", **changes: Any) -> None:
        self.name = name
        self.changes = changes

    def _find(self, frame: FrameLike, **changes: Any) -> pd.DataFrame:
        import napari_xtal

        params = napari_xtal.PeakFinderParams(**{**self.changes, **changes})
        found = napari_xtal.find_peaks(frame.image, frame.good, radius=frame.radius, params=params)
        return found.assign(score=found["snr"])[["row", "col", "score"]]

    def run(self, frame: FrameLike) -> pd.DataFrame:
        """Search at 10 000 false peaks per frame."""
        return self._find(frame, false_peaks_per_frame=1e4, max_peaks=1_000_000)

    def run_default(self, frame: FrameLike) -> pd.DataFrame:
        """Search with default parameters."""
        return self._find(frame)


FINDERS: dict[str, Any] = {
    "napari-xtal": NapariXtal,
    "om-pf8-2px": lambda: OMPeakfinder8(2),
    "om-pf8-3px": lambda: OMPeakfinder8(3),
    "om-pf8-fast-2px": lambda: OMPeakfinder8(2, fast=True),
    "matched-filter": MatchedFilter,
    "matched-filter-local": LocalMatchedFilter,
}
