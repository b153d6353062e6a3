"""What a network says of many windows, and the probabilities that fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.networks import Network
    from napari_xtal.peaks.verify.patches import Patches

#: Windows per pass.
_PASS = 2048


def outputs_of(
    network: Network, inputs: tuple[NDArray[np.float32], ...], device: torch.device
) -> NDArray[np.float32]:
    """Return the network's outputs for normalised windows, (n, 2)."""
    network.eval()
    parts = [np.empty((0, 2), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(inputs[0]), _PASS):
            some = [torch.from_numpy(x[start : start + _PASS]).to(device) for x in inputs]
            parts.append(network(*some).cpu().numpy())
    return np.concatenate(parts)


def logits_of(network: Network, patches: Patches) -> NDArray[np.float64]:
    """Return the difference of the logits of each window, peak minus no peak, (n,)."""
    device = next(network.parameters()).device
    logits = outputs_of(network, network.inputs(patches), device).astype(np.float64)
    return np.asarray(logits[:, 1] - logits[:, 0])


def calibrate_logits(
    logits: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
    weight: NDArray[np.float32] | None = None,
) -> tuple[float, float]:
    """Return the temperature and bias with which logits fit held-out labels.

    Minimises the cross-entropy of sigmoid(logit / temperature + bias) (Platt 1999; Guo et
    al. 2017 without the bias), by Newton's method. A weak prior keeps few labels, or labels
    without an error, from making it certain.

    Parameters
    ----------
    logits : (n,) ndarray of float
        Differences of the two outputs, see `logits_of`.
    is_peak : (n,) ndarray of bool
        Labels that were not learnt from.
    weight : (n,) ndarray of float, optional
        How much each counts.

    Returns
    -------
    temperature, bias : float
        1 and 0 change nothing.

    Raises
    ------
    InputError
        When there are no labels.
    """
    if len(logits) == 0:
        raise InputError("no labelled peaks to calibrate with")
    x = np.stack([logits, np.ones(len(logits))], axis=1)
    y = is_peak.astype(float)
    w = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    # As strong as four labels: temperature 1 and bias 0 without any.
    prior, centre = np.array([4.0, 1.0]), np.array([1.0, 0.0])
    theta = centre.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -60, 60)))
        gradient = x.T @ (w * (p - y)) + prior * (theta - centre)
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        theta -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        theta[0] = max(theta[0], 0.02)
        if np.abs(step).max() < 1e-8:
            break
    return float(1 / theta[0]), float(theta[1])
