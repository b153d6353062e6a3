"""The networks: small enough for every candidate of a live run on two cores."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from napari_xtal.errors import InputError
from napari_xtal.peaks.verify.normalisation import FINE, WIDTHS, foveate, normalise
from napari_xtal.peaks.verify.patches import HALF

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.patches import Patches


class Network(nn.Module):
    """A network that tells peaks from the rest by normalised windows.

    Attributes
    ----------
    architecture : str
        Its name in model files.
    window_half : int
        Half side of the window it takes [px].
    channels : tuple of int
        Channels of its inputs.
    """

    architecture: ClassVar[str]
    window_half: ClassVar[int] = HALF
    channels: ClassVar[tuple[int, ...]]

    @staticmethod
    @abstractmethod
    def inputs(patches: Patches) -> tuple[NDArray[np.float32], ...]:
        """Normalise windows to what `forward` takes."""

    @property
    def early(self) -> list[nn.Parameter]:
        """Parameters of the layers that see general shapes; kept when labels are few."""
        return []


class FoundingNetwork(Network):
    """Two rounds of convolution and pooling, drop-out, two full layers.

    The layer recipe of the founding peak finder, on 2-channel windows (significance and
    mask); a documented baseline.
    """

    architecture: ClassVar[str] = "founding"
    channels: ClassVar[tuple[int, ...]] = (2,)

    def __init__(self) -> None:
        super().__init__()
        side = (2 * HALF + 1) // 2 // 2
        self.features = nn.Sequential(
            nn.Conv2d(2, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(64 * side * side, 128), nn.ReLU(), nn.Linear(128, 2)
        )

    @staticmethod
    def inputs(patches: Patches) -> tuple[NDArray[np.float32], ...]:
        """Normalise windows: (n, 2, side, side)."""
        return (normalise(patches),)

    @property
    def early(self) -> list[nn.Parameter]:
        """Parameters of the convolutions."""
        return list(self.features.parameters())

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, 2) of (no peak, peak)."""
        return self.head(self.features(planes))


class SpotNetwork(Network):
    """Sees the middle of the window in full resolution and all of it in 3x3 bins.

    Inputs are those of `foveate`: the significance of single pixels for sharp spots and
    hot pixels, that of 3x3 sums for weak spots, the bins for wide spots, arcs, streaks and
    neighbours, and the significance of whole spots.
    """

    architecture: ClassVar[str] = "spot"
    channels: ClassVar[tuple[int, ...]] = (3, 2, len(WIDTHS) + 3)

    def __init__(self) -> None:
        super().__init__()
        side, bins = 2 * FINE + 1, (2 * HALF + 1) // 3
        self.fine = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(2, 8, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        n_fine = 32 * ((side - 2 - 3) // 2 + 1 - 2) ** 2
        n_coarse = 16 * ((bins - 2 - 3) // 2 + 1) ** 2
        self.head = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(n_fine + n_coarse + len(WIDTHS) + 3, 48),
            nn.ReLU(inplace=True),
            nn.Linear(48, 2),
        )
        self.direct = nn.Linear(len(WIDTHS) + 3, 2)

    @staticmethod
    def inputs(patches: Patches) -> tuple[NDArray[np.float32], ...]:
        """Normalise windows: (n, 3, 15, 15), (n, 2, 9, 9) and (n, 8)."""
        return foveate(patches)

    @property
    def early(self) -> list[nn.Parameter]:
        """Parameters of the convolutions."""
        return [*self.fine.parameters(), *self.coarse.parameters()]

    def forward(
        self, fine: torch.Tensor, coarse: torch.Tensor, whole: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits (n, 2) of (no peak, peak)."""
        seen = torch.cat([self.fine(fine), self.coarse(coarse), whole], dim=1)
        return self.head(seen) + self.direct(whole)


ARCHITECTURES: dict[str, type[Network]] = {
    network.architecture: network for network in (FoundingNetwork, SpotNetwork)
}


def make_network(name: str = "spot", seed: int = 0) -> Network:
    """Return a network with fresh weights.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`.
    seed : int
        The same seed gives the same weights.

    Raises
    ------
    InputError
        When there is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise InputError(
            f"architecture '{name}' is unknown; choose one of {', '.join(ARCHITECTURES)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name]()
