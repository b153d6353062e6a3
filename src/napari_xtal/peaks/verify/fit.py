"""The training loop of the networks, for the shipped weights and for users' own."""

from __future__ import annotations

import copy
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.augment import Augmentation, augmented
from napari_xtal.peaks.verify.calibration import calibrate_logits, logits_of, outputs_of
from napari_xtal.peaks.verify.cnn import best_device
from napari_xtal.peaks.verify.torch_threads import one_thread_each, use_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.networks import Network
    from napari_xtal.peaks.verify.patches import Patches

__all__ = [
    "Fit",
    "FitParams",
    "LabelledPatches",
    "calibrate",
    "calibrate_logits",
    "fit_network",
    "logits_of",
]

#: Batches that are prepared ahead.
_AHEAD = 3


@dataclass(frozen=True)
class LabelledPatches:
    """Windows with their labels and weights.

    Attributes
    ----------
    patches : Patches
        n windows.
    is_peak : (n,) ndarray of bool
        The labels.
    weight : (n,) ndarray of float32 or None
        How much each counts; 1 by default.
    """

    patches: Patches
    is_peak: NDArray[np.bool_]
    weight: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.patches)
        for name in ("is_peak", "weight"):
            array = getattr(self, name)
            if array is not None and len(array) != n:
                raise InputError(f"{n} patches but {len(array)} values of '{name}'")

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights, also where none were given."""
        if self.weight is None:
            return np.ones(len(self), np.float32)
        return np.asarray(self.weight, np.float32)


@dataclass(frozen=True)
class FitParams:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Most passes over the data.
    patience : int
        Stop after so many passes without a better validation loss.
    batch : int
        Windows per step.
    learning_rate : float
        Highest rate of AdamW; it rises over the first tenth of the steps and falls like a
        cosine to a hundredth.
    weight_decay : float
        Decay of AdamW.
    balance : float
        0: every window counts its weight; 1: both classes count the same in sum.
    anchor : float
        Pull towards the weights at the start (L2-SP, Li et al. 2018), for fine-tuning.
    freeze_early : bool
        Keep the network's early layers, for few labels.
    augmentation : Augmentation or None
        How windows are varied; None: not at all.
    """

    epochs: int = 30
    patience: int = 8
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    balance: float = 0.5
    anchor: float = 0.0
    freeze_early: bool = False
    augmentation: Augmentation | None = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "balance", "anchor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ParameterError(f"{name} must be a number of 0 or more, got {value}")


@dataclass(frozen=True)
class Fit:
    """What came of a training.

    Attributes
    ----------
    network : Network
        The network with the weights of the best epoch.
    loss : dict of list of float
        Cross-entropy per epoch: ``train`` (with augmentation) and ``validation``.
    best_epoch : int
        Index of the epoch the weights are from; -1: no epoch was better than the start.
    cancelled : bool
        Whether it was stopped from outside.
    """

    network: Network
    loss: dict[str, list[float]]
    best_epoch: int
    cancelled: bool


def fit_network(
    network: Network,
    train: LabelledPatches,
    validation: LabelledPatches,
    params: FitParams | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Fit:
    """Train a network, from whatever weights it has.

    Parameters
    ----------
    network : Network
        Changed in place.
    train, validation : LabelledPatches
        To learn from; to decide when to stop. Both classes must be in `train`.
    params : FitParams, optional
        How.
    seed : int
        The same seed gives the same weights on the same machine's processor.
    device : str, optional
        ``cuda``, ``mps`` or ``cpu``; default: the fastest there is.
    progress : callable, optional
        Called with (steps done, most steps) after each step.
    cancel : callable, optional
        Asked after each step; True stops and keeps the best so far.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        When there is nothing to learn from, or one class only.
    """
    params = params or FitParams()
    _check(train, validation, network.window_half)
    target = torch.device(device or best_device())
    network.to(target)
    state = torch.get_rng_state()
    try:
        with one_thread_each():
            # Windows are prepared in a second thread; with more, small steps only wait for
            # each other, and the weights would depend on the number of cores.
            use_one()
            torch.manual_seed(seed)
            return _Run(network, train, validation, params, seed, target).run(progress, cancel)
    finally:
        torch.set_rng_state(state)
        network.eval()
        network.to("cpu")


def _check(train: LabelledPatches, validation: LabelledPatches, half: int) -> None:
    for name, part in (("training", train), ("validation", validation)):
        if len(part) == 0:
            raise InputError(f"no labelled peaks for {name}; label some as peak and not-peak")
        if part.patches.half != half:
            raise InputError(
                f"{name}: windows of half side {part.patches.half} px; this network takes {half}"
            )
        if not part.patches.has_signal.all():
            raise InputError(
                f"{name}: {np.count_nonzero(~part.patches.has_signal)} windows are masked in the "
                "centre; leave them out"
            )
    n_peaks = int(np.count_nonzero(train.is_peak))
    if n_peaks in (0, len(train)):
        raise InputError(
            f"all {len(train)} training labels are {'peak' if n_peaks else 'not-peak'}; label "
            "some of both"
        )


class _Run:
    """One training, step by step."""

    def __init__(
        self,
        network: Network,
        train: LabelledPatches,
        validation: LabelledPatches,
        params: FitParams,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network, self.train, self.validation = network, train, validation
        self.params, self.device = params, device
        self.rng = np.random.default_rng(seed)
        self.weights = _balanced(train, params.balance)
        self.start = {k: v.detach().clone() for k, v in network.named_parameters()}
        early = {id(p) for p in network.early} if params.freeze_early else set()
        learnt = [p for p in network.parameters() if id(p) not in early]
        self.optimiser = torch.optim.AdamW(
            learnt, lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self.per_epoch = math.ceil(len(train) / params.batch)
        self.steps = 0

    @property
    def total(self) -> int:
        return self.per_epoch * self.params.epochs

    def run(
        self,
        progress: Callable[[int, int], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> Fit:
        loss: dict[str, list[float]] = {"train": [], "validation": []}
        inputs = self.network.inputs(self.validation.patches)
        best, best_epoch, cancelled = self.validation_loss(inputs), -1, False
        kept = copy.deepcopy(self.network.state_dict())
        for epoch in range(self.params.epochs):
            total, cancelled = self.epoch(progress, cancel)
            if cancelled and total is None:
                break
            now = self.validation_loss(inputs)
            loss["train"].append(float(total or 0.0))
            loss["validation"].append(now)
            if now < best:
                best, best_epoch = now, epoch
                kept = copy.deepcopy(self.network.state_dict())
            if cancelled or epoch - best_epoch >= self.params.patience:
                break
        self.network.load_state_dict(kept)
        if progress is not None and not cancelled:
            progress(self.total, self.total)
        return Fit(self.network, loss, best_epoch, cancelled)

    def epoch(
        self,
        progress: Callable[[int, int], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> tuple[float | None, bool]:
        """Pass over the data once; returns the mean loss (None: not one step) and whether to stop."""
        self.network.train()
        losses: list[float] = []
        counts: list[float] = []
        for rows, inputs in self.batches():
            if cancel is not None and cancel():
                return (float(np.average(losses, weights=counts)) if losses else None), True
            losses.append(self.step(rows, inputs))
            counts.append(self.weights[rows].sum() + 1e-12)
            if progress is not None:
                progress(self.steps, self.total)
        return float(np.average(losses, weights=counts)), False

    def batches(self) -> Iterator[tuple[NDArray[np.intp], tuple[NDArray[np.float32], ...]]]:
        """Yield row numbers and network inputs, the next ones made while these are learnt."""
        order = self.rng.permutation(len(self.train))
        with ThreadPoolExecutor(1, "augment") as pool:
            ahead: deque[Future[Any]] = deque()
            try:
                for rows in np.array_split(order, self.per_epoch):
                    ahead.append(pool.submit(self.prepare, rows))
                    if len(ahead) > _AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def prepare(
        self, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], tuple[NDArray[np.float32], ...]]:
        patches = self.train.patches.take(rows)
        if self.params.augmentation is not None:
            patches = augmented(
                patches, self.train.is_peak[rows], self.rng, self.params.augmentation
            )
        return rows, self.network.inputs(patches)

    def step(self, rows: NDArray[np.intp], inputs: tuple[NDArray[np.float32], ...]) -> float:
        """Learn from some windows; returns their loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.params.learning_rate * _schedule(self.steps / max(self.total, 1))
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.network(*(torch.from_numpy(a).to(self.device) for a in inputs))
        value = _loss(logits, self.train.is_peak[rows], self.weights[rows])
        (value + self.pull()).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        return float(value.detach())

    def pull(self) -> torch.Tensor:
        """Penalty for leaving the weights of the start."""
        if self.params.anchor == 0:
            return torch.zeros((), device=self.device)
        apart = [((p - self.start[k]) ** 2).sum() for k, p in self.network.named_parameters()]
        return self.params.anchor * torch.stack(apart).sum()

    def validation_loss(self, inputs: tuple[NDArray[np.float32], ...]) -> float:
        logits = outputs_of(self.network, inputs, self.device)
        weights = _balanced(self.validation, self.params.balance)
        return float(_loss(torch.from_numpy(logits), self.validation.is_peak, weights))


def _schedule(done: float) -> float:
    """Share of the highest learning rate after a share of the steps."""
    if done < 0.1:
        return 0.1 + 9 * done
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


def _balanced(data: LabelledPatches, balance: float) -> NDArray[np.float32]:
    """Sample weights of mean 1 in which the classes are balanced to some degree."""
    weights = data.weights.astype(np.float64)
    for label in (False, True):
        rows = data.is_peak == label
        share = weights[rows].sum() / max(weights.sum(), 1e-12)
        if share > 0:
            weights[rows] *= (0.5 / share) ** balance
    return (weights / max(weights.mean(), 1e-12)).astype(np.float32)


def _loss(
    logits: torch.Tensor, is_peak: NDArray[np.bool_], weights: NDArray[np.float32]
) -> torch.Tensor:
    target = torch.from_numpy(is_peak.astype(np.int64)).to(logits.device)
    weight = torch.from_numpy(weights).to(logits.device)
    each = functional.cross_entropy(logits, target, reduction="none")
    return (each * weight).sum() / weight.sum().clamp_min(1e-12)


def calibrate(network: Network, data: LabelledPatches) -> tuple[float, float]:
    """Return the temperature and bias with which probabilities fit held-out labels.

    Parameters
    ----------
    network : Network
        Trained.
    data : LabelledPatches
        Labels that were not learnt from.

    Returns
    -------
    temperature, bias : float
        1 and 0 change nothing; see `calibrate_logits`.

    Raises
    ------
    InputError
        When there are no labels.
    """
    return calibrate_logits(logits_of(network, data.patches), data.is_peak, data.weights)
