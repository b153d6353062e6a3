"""Fine-tuning a network on few labels, drawn back to where it began unless they speak for it.

Labels are divided into folds of whole groups. The network is tuned on all but one fold,
and the weights are drawn back towards those of the start, ``start + a (tuned - start)``
(weight-space ensembles, Wortsman et al. 2022). ``a`` is the share with the least loss on
rows that were not learnt from; zero where none beats the start by its standard error
without a lower average precision. Few labels estimate both badly: on other frames the
result can still be a little worse. The share and the calibration, three numbers, are
chosen on the rows they are scored with; chosen fold by fold they would mix scales, and few
labels would score worse than they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.peaks.verify.curves import average_precision
from napari_xtal.peaks.verify.fit import (
    FitParams,
    LabelledPatches,
    calibrate_logits,
    fit_network,
    logits_of,
)
from napari_xtal.peaks.verify.labels import CANCELLED
from napari_xtal.peaks.verify.networks import make_network
from napari_xtal.peaks.verify.splits import grouped_folds, grouped_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.cnn import PeakVerifier
    from napari_xtal.peaks.verify.labels import Labels
    from napari_xtal.peaks.verify.networks import Network
    from napari_xtal.peaks.verify.patches import Patches

#: Most folds; fewer where a class lies on fewer groups.
N_FOLDS = 5
#: Shares of the way from the start to the tuned weights that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Fine-tuning: no early stopping, since the share decides how far to go.
TUNING = FitParams(epochs=20, patience=20, batch=32, learning_rate=2e-3, balance=0.0)
#: Training from fresh weights, with early stopping on a part of the groups.
FRESH = FitParams(epochs=60, patience=15, batch=32)
_VALIDATION = 0.2


@dataclass(frozen=True)
class Tuned:
    """A network made from labels, and what it said of labels it had not seen.

    Attributes
    ----------
    network : Network
        Trained on all labels.
    temperature, bias : float
        Its calibration.
    probability : (n,) ndarray
        Of each label, by networks that were trained without its group.
    before : (n,) ndarray or None
        Probabilities by the start; None when training began with fresh weights.
    share : float
        How far from the start's weights (0) to the tuned ones (1) the network is.
    loss : dict of list of float
        Loss per epoch of the training on all labels.
    n_folds : int
        Number of folds.
    cancelled : bool
        Whether training was stopped; the network is the best so far.
    """

    network: Network
    temperature: float
    bias: float
    probability: NDArray[np.float64]
    before: NDArray[np.float64] | None
    share: float
    loss: dict[str, list[float]]
    n_folds: int
    cancelled: bool


def number_of_folds(labels: Labels) -> int:
    """Return how many folds labels allow; at least 2, which may still be too many."""
    groups = [len(np.unique(labels.groups[labels.is_peak == kind])) for kind in (True, False)]
    return max(2, min(N_FOLDS, *groups))


def fine_tune(
    start: PeakVerifier,
    labels: Labels,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Tuned:
    """Tune the network of a verifier; see the module for the method.

    Parameters
    ----------
    start : PeakVerifier
        Where training begins; it is not changed.
    labels : Labels
        To learn from.
    seed : int
        The same seed gives the same weights.
    progress : callable, optional
        Called with (done, total).
    cancel : callable, optional
        Asked after each step; True stops. Before the folds are done the start is kept.

    Returns
    -------
    Tuned

    Raises
    ------
    InputError
        When a class lies on fewer than two groups.
    """
    n_folds = number_of_folds(labels)
    folds = grouped_folds(labels.groups, labels.is_peak, n_folds, seed, unit=labels.unit)
    home = copy.deepcopy(start.network).cpu()

    def said(network: Network, patches: Patches) -> NDArray[np.float64]:
        return logits_of(network, patches) / start.temperature + start.bias

    logits = np.tile(said(home, labels.patches), (len(SHARES), 1))
    before = _sigmoid(logits[0])
    network, loss = home, dict[str, list[float]]()
    for k, (train, test) in enumerate([*folds, (np.arange(len(labels)), np.zeros(0, np.int64))]):
        data = LabelledPatches(labels.patches.take(train), labels.is_peak[train])
        network = copy.deepcopy(home)
        fit = fit_network(
            network, data, data, TUNING, seed=seed + k, device="cpu",
            progress=part_of(progress, k, n_folds + 1), cancel=cancel,
        )  # fmt: skip
        if fit.cancelled and k < n_folds:
            return Tuned(
                home, start.temperature, start.bias, before, before, 0.0, {}, n_folds, True
            )
        if k < n_folds:
            patches = labels.patches.take(test)
            for a, share in enumerate(SHARES[1:], 1):
                logits[a, test] = said(between(home, network, share), patches)
        loss, cancelled = {"train": fit.loss["train"]}, fit.cancelled
    a, temperature, bias = _choose(logits, labels)
    return Tuned(
        between(home, network, SHARES[a]),
        start.temperature * temperature,
        start.bias / temperature + bias,
        _sigmoid(logits[a] / temperature + bias),
        before,
        SHARES[a],
        loss,
        n_folds,
        cancelled,
    )


def train_fresh(
    labels: Labels,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Tuned:
    """Train a network from fresh weights; for thousands of labels. See `fine_tune`."""
    n_folds = number_of_folds(labels)
    folds = grouped_folds(labels.groups, labels.is_peak, n_folds, seed, unit=labels.unit)
    logits, epochs = np.zeros(len(labels)), []
    for k, (train, test) in enumerate(folds):
        inner = grouped_split(
            labels.groups[train], labels.is_peak[train], (1 - _VALIDATION, _VALIDATION), seed,
            unit=labels.unit,
        )  # fmt: skip
        learn, stop = (
            LabelledPatches(labels.patches.take(train[rows]), labels.is_peak[train[rows]])
            for rows in inner
        )
        network = make_network(seed=seed + k)
        fit = fit_network(
            network, learn, stop, FRESH, seed=seed + k, device="cpu",
            progress=part_of(progress, k, n_folds + 1), cancel=cancel,
        )  # fmt: skip
        if fit.cancelled:
            raise InputError(CANCELLED)
        logits[test] = logits_of(network, labels.patches.take(test))
        epochs.append(fit.best_epoch + 1)
    data = LabelledPatches(labels.patches, labels.is_peak)
    n_epochs = max(int(np.median(epochs)), 1)
    network = make_network(seed=seed)
    fit = fit_network(
        network, data, data, replace(FRESH, epochs=n_epochs, patience=n_epochs), seed=seed,
        device="cpu", progress=part_of(progress, n_folds, n_folds + 1), cancel=cancel,
    )  # fmt: skip
    temperature, bias = calibrate_logits(logits, labels.is_peak)
    probability = _sigmoid(logits / temperature + bias)
    loss = {"train": fit.loss["train"]}
    return Tuned(network, temperature, bias, probability, None, 1.0, loss, n_folds, fit.cancelled)


def between(start: Network, tuned: Network, share: float) -> Network:
    """Return a network with weights a share of the way from one to the other."""
    network, ends = copy.deepcopy(start), (start.state_dict(), tuned.state_dict())
    network.load_state_dict({k: (1 - share) * v + share * ends[1][k] for k, v in ends[0].items()})
    return network


def _choose(logits: NDArray[np.float64], labels: Labels) -> tuple[int, float, float]:
    """Return which share to take, and its calibration.

    Parameters
    ----------
    logits : (n_shares, n) ndarray
        Of all labels, by networks that did not learn from them.
    labels : Labels
        The labels.
    """
    truth = labels.is_peak
    calibrations = [calibrate_logits(some, truth) for some in logits]
    losses = np.array(
        [
            np.logaddexp(0, np.where(truth, -1, 1) * (some / temperature + bias))
            for some, (temperature, bias) in zip(logits, calibrations, strict=True)
        ]
    )
    precision = [average_precision(truth, some) for some in logits]
    best, best_gain = 0, 0.0
    for a in range(1, len(logits)):
        if precision[a] < precision[0]:
            continue
        gain = losses[0] - losses[a]
        apart = gain - gain.mean()
        # Rows of a frame err together.
        error = max((apart**2).sum(), (np.bincount(labels.groups, apart) ** 2).sum()) ** 0.5 / len(
            gain
        )
        if gain.mean() - error > best_gain:
            best, best_gain = a, float(gain.mean() - error)
    return best, *calibrations[best]


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(x), dtype=np.float64)


def part_of(
    progress: Callable[[int, int], None] | None, k: int, n: int
) -> Callable[[int, int], None] | None:
    """Return the progress of one of several equally long parts, in percent of a part."""
    if progress is None:
        return None
    return lambda done, total: progress(100 * k + 100 * done // max(total, 1), 100 * n)
