"""What an answer to photos is worth: hits, calibration, and whether unknown cars are noticed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from scipy.stats import beta
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from ..scores import calibration_error

KEPT = 0.9
"""Share of the rightly named photos that the unknown flag leaves alone."""


@dataclass(frozen=True)
class Figures:
    """Of one answerer on one set of photos."""

    photos: int
    hits: int
    macro_f1: float
    top3: float
    make: float
    calibration_error: float

    @property
    def accuracy(self) -> float:
        """Share of photos whose likeliest class is theirs."""
        return self.hits / self.photos

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's 95 % interval of the accuracy; it holds for few photos too."""
        low = beta.ppf(0.025, self.hits, self.photos - self.hits + 1) if self.hits else 0.0
        high = beta.ppf(0.975, self.hits + 1, self.photos - self.hits) if self.hits < self.photos else 1.0
        return float(low), float(high)


def figures(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Figures:
    """Scores probabilities, a row a photo."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    best, makes = order[:, 0], np.array([name.split("_")[0] for name in classes])
    names = sorted(set(makes))
    by_make = np.stack([probabilities[:, makes == name].sum(axis=1) for name in names], axis=1)
    right = best == labels
    return Figures(
        len(labels),
        int(right.sum()),
        float(f1_score(labels, best, average="macro", zero_division=0)),
        float((order[:, :3] == labels[:, None]).any(axis=1).mean()),
        float(np.mean(np.array(names)[by_make.argmax(axis=1)] == makes[labels])),
        calibration_error(probabilities.max(axis=1), right),
    )


def matrix(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Photos by their class (rows) and the class answered (columns)."""
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(count))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What logits are divided by so that the photos' labels become likeliest."""

    def loss(log: float) -> float:
        scaled = logits / np.exp(log)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def cross_calibrated(logits: np.ndarray, labels: np.ndarray, folds) -> np.ndarray:
    """Probabilities of each fold at the temperature of the other folds."""
    found = np.empty_like(logits, dtype=float)
    for train, test in folds:
        found[test] = softmax(logits[test] / temperature(logits[train], labels[train]), axis=1)
    return found


@dataclass(frozen=True)
class Unknown:
    """The flag on an answer whose likeliest class is not likely."""

    threshold: float
    right: float
    wrong: float
    """Shares of right and wrong answers out of fold that are flagged."""
    others: dict[str, float]
    """Share of flagged photos of each make that is no class."""
    area: float
    area_energy: float
    """Area under the curve of known photos out of fold against other makes, by probability and by log-sum-exp."""


def unknown(logits: np.ndarray, labels: np.ndarray, others: np.ndarray, makes: np.ndarray, heat: float) -> Unknown:
    """Chooses the threshold on known photos out of fold and measures it there and on other makes."""
    known, strange = softmax(logits / heat, axis=1).max(axis=1), softmax(others / heat, axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    # Rounded down, so that the manifest's number keeps what was promised.
    threshold = float(np.floor(np.quantile(known[right], 1 - KEPT) * 1000) / 1000)
    side = np.r_[np.ones(len(known)), np.zeros(len(strange))]
    energy = np.r_[logsumexp(logits, axis=1), logsumexp(others, axis=1)]
    return Unknown(
        threshold,
        float(np.mean(known[right] < threshold)),
        float(np.mean(known[~right] < threshold)),
        {str(make): float(np.mean(strange[makes == make] < threshold)) for make in np.unique(makes)},
        float(roc_auc_score(side, np.r_[known, strange])),
        float(roc_auc_score(side, energy)),
    )
