"""Calibration: whether a model is right as often as it says. Pure: cases in, figures out.

    found = calibration([Answered(0.8, True), Answered(0.6, False), …])
    found.error, found.low, found.high
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headwater.lineage.errors import Misused

BINS = 10
_RESAMPLES = 2000
_Z = 1.959964


class Answered(NamedTuple):
    """One answer: the probability that the model gave its choice, and whether the choice was right."""

    confidence: float
    right: bool


class Bin(NamedTuple):
    """Answers of like confidence: how many, what they said on average, what share was right, and the 95 % interval of that share."""

    low: float
    high: float
    many: int
    confidence: float
    right: float
    least: float
    most: float


class Calibration(NamedTuple):
    """What `calibration` finds.

    error      expected calibration error: the mean distance of confidence and share right over the bins, weighted by their cases
    low, high  its 95 % interval, from cases drawn again with replacement
    floor      the error that a perfectly calibrated model would show on as many cases of these confidences: few cases, a high floor
    """

    many: int
    right: float
    confidence: float
    error: float
    low: float
    high: float
    floor: float
    bins: tuple[Bin, ...]


def calibration(answers: Sequence[Answered], bins: int = BINS, seed: int = 0) -> Calibration:
    """The calibration of answers, in bins of equal width. Raises Misused without answers, or for a confidence outside 0 to 1."""
    if not answers:
        raise Misused("calibration needs answers; there are none")
    confidence = np.array([each.confidence for each in answers], dtype=float)
    right = np.array([each.right for each in answers], dtype=float)
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise Misused("calibration: a confidence lies outside 0 to 1")
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(answers), (_RESAMPLES, len(answers)))
    errors = sorted(_error(confidence[rows], right[rows], place[rows], bins) for rows in drawn)
    floor = np.mean([_error(confidence, (random.random(len(answers)) < confidence).astype(float), place, bins) for _ in range(_RESAMPLES)])
    found = tuple(_bin(n / bins, (n + 1) / bins, confidence[place == n], right[place == n]) for n in range(bins) if (place == n).any())
    return Calibration(
        len(answers), float(right.mean()), float(confidence.mean()), _error(confidence, right, place, bins),
        errors[round(0.025 * (_RESAMPLES - 1))], errors[round(0.975 * (_RESAMPLES - 1))], float(floor), found,
    )  # fmt: skip


def _error(confidence: np.ndarray, right: np.ndarray, place: np.ndarray, bins: int) -> float:
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def _bin(low: float, high: float, confidence: np.ndarray, right: np.ndarray) -> Bin:
    many, share = len(right), float(right.mean())
    # Wilson's interval: it stays within 0 to 1, and is not empty where all cases are alike.
    middle = (share + _Z**2 / (2 * many)) / (1 + _Z**2 / many)
    half = _Z * math.sqrt(share * (1 - share) / many + _Z**2 / (4 * many**2)) / (1 + _Z**2 / many)
    mean = min(max(float(confidence.mean()), low), high)  # rounded, it may lie outside
    return Bin(low, high, many, mean, share, max(0.0, middle - half), min(1.0, middle + half))
