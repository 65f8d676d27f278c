"""Fits bodies: cross-fitted spread and calibration, never seeing the group they are judged on.

Training rows are repeated as a caller would send them: in full, with the required inputs only, and with random inputs
left out. So the heads learn what a missing value means, and each calibration tier has requests of its own coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from .body import LINKS, Body, Linear, Tier
from .data import Rows, group_folds
from .heads import Forest, margin
from .signature import Signature, masked, minimal

SEED = 20250101


@dataclass(frozen=True)
class Styles:
    """How requests are thinned out: inputs that always stay, random copies, and training weight of each style."""

    keep: tuple[str, ...]
    copies: int = 3
    full: float = 1.0
    minimal: float = 0.3
    masked: float = 0.2
    also: Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame] | None = None
    """Applied to every copy, for example to hide model lines as if they were unseen."""
    hidden: str | None = None
    """A text input that is also left out of extra copies; their residuals are of models that never saw its value."""

    def expand(self, rows: Rows) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
        """Requests, position of the row each came from, its weight and its style (0 full, 1 minimal, 2 masked)."""
        rng = np.random.default_rng(SEED)
        keep = list(self.keep)
        copies = [(rows.frame, self.full, 0), (minimal(rows.frame, keep), self.minimal, 1)]
        copies += [(masked(rows.frame, keep, rng), self.masked, 2) for _ in range(self.copies)]
        if self.hidden:
            for frame, share in ((rows.frame, self.full), (minimal(rows.frame, keep), self.minimal)):
                copies.append((frame.assign(**{self.hidden: None}), 0.15 * share, 2))
        frames = [copy if self.also is None else self.also(copy, rng) for copy, _, _ in copies]
        origin = np.tile(np.arange(len(rows)), len(copies))
        weight = np.concatenate([rows.weight * share for _, share, _ in copies])
        style = np.repeat([kind for _, _, kind in copies], len(rows))
        return pd.concat(frames, ignore_index=True), origin, weight, style


@dataclass(frozen=True)
class Recipe:
    """What all recipes share."""

    point: Forest
    styles: Styles
    tiers: tuple[float, ...]
    folds: int = 5
    thin: int = 1
    """Every how manieth row is learned from, where neighbouring rows say the same."""
    encode_as: Callable[[Rows], np.ndarray] | None = None
    """What the codes of learned vocabularies are ordered by; default the target on the link's scale."""


# === quantiles ===

STEEPNESS = {
    "identity": np.zeros_like,
    "exp": lambda location: location,
    "expm1": lambda location: location,
    "pow10": lambda location: location * np.log(10.0),
}
"""Logarithm of a link's slope."""


@dataclass(frozen=True)
class Quantiles(Recipe):
    """Median from the point head, interval from the spread head, both scaled by tier."""

    link: str = "identity"
    spread: Forest | None = None
    linear: tuple[str, ...] = ()
    ridge: float = 1.0
    complete: bool = False
    """Whether the linear term is fitted to the rows that have all of its columns only."""
    share: float = 0.8
    """Share of unseen rows the interval is fitted to hold."""
    damping: tuple[float, ...] = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.1, 0.0)
    """How far widths may follow the expected error: 1 in full, 0 not at all.

    An interval as wide as the expected error everywhere is wider on average than a constant one of the same coverage
    when a few rows are much harder than the rest. The first exponent is taken whose cross-fitted intervals are
    narrower than the constant-width conformal interval by `margin`, else the narrowest.
    """
    margin: float = 0.05

    def learn(self, signature: Signature, rows: Rows) -> Signature:
        """Vocabularies and codes of the training rows."""
        target = LINKS[self.link][1](rows.target)
        return signature.learn(rows.frame, self.encode_as(rows) if self.encode_as else target)

    def fit(self, signature: Signature, rows: Rows) -> tuple[Signature, Body]:
        """Fits a body to rows."""
        rows = rows.take(np.arange(0, len(rows), self.thin))
        names = signature.column_names
        target = LINKS[self.link][1](rows.target.astype(np.float64))
        requests, origin, weight, style = self.styles.expand(rows)
        learned, linear, point = self._point(signature, rows, requests, origin, weight)
        # Residuals of rows whose group the point head has not seen.
        residual, coverage = np.empty(len(requests)), np.empty(len(requests))
        folds = group_folds(rows.group, self.folds, SEED)
        matrices = np.empty((len(requests), len(names)), np.float32)
        splits = [(split, np.ones(len(requests), bool)) for split in folds]
        if self.styles.hidden:
            unseen = requests[self.styles.hidden].isna().to_numpy()
            values = rows.frame[self.styles.hidden].to_numpy(str)
            splits = [(split, ~unseen) for split in folds]
            splits += [(split, unseen) for split in group_folds(values, len(np.unique(values)), SEED)]
        for (train, test), wanted in splits:
            inner = np.isin(origin, train)
            part, where = rows.take(train), np.flatnonzero(np.isin(origin, test) & wanted)
            position = np.full(len(rows), -1)
            position[train] = np.arange(len(train))
            s, l, p = self._point(signature, part, requests[inner], position[origin[inner]], weight[inner])
            matrix = s.transform(requests.iloc[where])
            location = margin(p, matrix.columns).astype(np.float64)
            if l is not None:
                location += l.apply(matrix.columns, names)
            residual[where] = target[origin[where]] - location
            coverage[where], matrices[where] = matrix.coverage, matrix.columns
        scored, answer = rows.evaluated[origin], LINKS[self.link][0]
        tier_of = Body(point, [Tier(c) for c in self.tiers], "").tier_of(coverage)
        judged = rows.weight[origin] * np.where(style == 2, 0.05, 1.0)
        head, spread, floor = None, np.ones(len(requests)), 0.0
        if self.spread is not None:
            location = target[origin] - residual
            full = (style == 0) & scored
            size = np.abs(residual)
            size = np.log(np.maximum(size, 0.1 * np.median(size)))
            steep = STEEPNESS[self.link](location)

            def crossfitted(values: np.ndarray) -> np.ndarray:
                out = np.empty(len(values))
                for train, test in folds:
                    inner, where = np.isin(origin, train), np.isin(origin, test)
                    fitted = self.spread.train(matrices[inner], values[inner], weight[inner])
                    out[where] = margin(fitted, matrices[where]).astype(np.float64)
                return out

            raw, slope = crossfitted(size), crossfitted(steep) if np.ptp(steep) else steep
            constant = 2 * np.quantile(np.abs(answer(target[origin]) - answer(location))[full], self.share)
            widths = {}
            for power in self.damping:
                widths[power] = self._width(
                    location, residual, np.exp(power * raw - (1 - power) * slope), tier_of, judged, full, scored
                )
                if widths[power] <= (1 - self.margin) * constant:
                    break
            power = min(widths, key=widths.get)
            aim = power * size - (1 - power) * steep
            if np.ptp(aim):
                head = self.spread.train(matrices, aim, weight)
                spread = np.exp(crossfitted(aim))
                floor = float(str(np.float32(0.5 * np.quantile(spread, 0.02))))
                spread = np.maximum(spread, floor)
        body = Body(point, [Tier(c) for c in self.tiers], "cross-fitted residual quantiles by coverage", head, floor, linear)
        for k, tier in enumerate(body.tiers):
            chosen = (tier_of == k) & scored
            tier.z = self._tails(residual, spread, judged, chosen if chosen.sum() >= 20 else scored)
        for kind, name in ((0, "full"), (1, "minimal")):
            for part in ("", *np.unique(rows.part)):
                chosen = (style == kind) & scored & ((rows.part[origin] == part) | (part == ""))
                if chosen.any():
                    z = np.array([t.z[1] for t in body.tiers])[tier_of[chosen]]
                    middle = answer(target[origin[chosen]] - residual[chosen] + spread[chosen] * z)
                    miss = np.abs(rows.target[origin[chosen]] - middle)
                    body.halfwidth[f"{part}/{name}"] = float(np.quantile(miss, 0.8))
        return learned, body

    def _tails(self, residual, spread, weight, chosen) -> tuple[float, ...]:
        tails = (0.5 - self.share / 2, 0.5, 0.5 + self.share / 2)
        return tuple(weighted_quantile(residual[chosen] / spread[chosen], weight[chosen], tails))

    def _width(self, location, residual, spread, tier_of, weight, full, scored) -> float:
        """Mean width of full requests' intervals on the scale of the answer."""
        total, answer = 0.0, LINKS[self.link][0]
        for k in np.unique(tier_of[full]):
            z = self._tails(residual, spread, weight, (tier_of == k) & scored)
            mine = full & (tier_of == k)
            total += np.sum(answer(location[mine] + spread[mine] * z[2]) - answer(location[mine] + spread[mine] * z[0]))
        return total / full.sum()

    def _point(self, signature, rows, requests, origin, weight):
        learned = self.learn(signature, rows)
        target = LINKS[self.link][1](rows.target.astype(np.float64))[origin]
        matrix = learned.transform(requests).columns
        linear = None
        if self.linear:
            linear = fit_linear(matrix, learned.column_names, self.linear, target, weight, self.ridge, self.complete)
            target = target - linear.apply(matrix, learned.column_names)
        return learned, linear, self.point.train(matrix, target, weight)


def fit_linear(matrix, names, chosen, target, weight, ridge, complete) -> Linear:
    """Ridge on standardised columns; a missing value stands at the centre, as it does when served."""
    picked = matrix[:, [names.index(c) for c in chosen]].astype(np.float64)
    if complete:
        whole = ~np.isnan(picked).any(axis=1)
        picked, target, weight = picked[whole], target[whole], weight[whole]
    centers, scales = np.nanmean(picked, axis=0), np.nanstd(picked, axis=0) + 1e-12
    standard = np.nan_to_num((picked - centers) / scales)
    mean = np.average(target, weights=weight)
    weighted = standard * weight[:, None]
    solution = np.linalg.solve(weighted.T @ standard + ridge * np.eye(len(chosen)), weighted.T @ (target - mean))
    terms = tuple((c, float(w / s), float(m)) for c, w, s, m in zip(chosen, solution, scales, centers))
    return Linear(0.0, terms)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Quantiles of a weighted sample."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weight[order]) - 0.5 * weight[order]
    return [float(np.interp(share * weight.sum(), cumulated, values[order])) for share in shares]


# === probability ===


@dataclass(frozen=True)
class Probability(Recipe):
    """A probability of an event, calibrated by a logistic fit on cross-fitted margins."""

    quantity: Callable[[Rows], np.ndarray] | None = None
    """What the head learns in place of the event: a number that rises with it and says more than yes or no."""

    def labels(self, rows: Rows) -> np.ndarray:
        """What the head is trained on."""
        return self.quantity(rows) if self.quantity else rows.target

    def learn(self, signature: Signature, rows: Rows) -> Signature:
        """Vocabularies and codes of the training rows."""
        return signature.learn(rows.frame, rows.target.astype(np.float64))

    def fit(self, signature: Signature, rows: Rows) -> tuple[Signature, Body]:
        """Fits a body to rows."""
        rows = rows.take(np.arange(0, len(rows), self.thin))
        requests, origin, weight, _ = self.styles.expand(rows)
        learned = self.learn(signature, rows)
        labels = self.labels(rows)
        point = self.point.train(learned.transform(requests).columns, labels[origin], weight)
        raw, coverage = crossfit(self, signature, rows, labels, requests, origin, weight)
        body = Body(point, [Tier(c) for c in self.tiers], "logistic fit on cross-fitted margins by coverage")
        tier_of, scored = body.tier_of(coverage), rows.evaluated[origin]
        for k, tier in enumerate(body.tiers):
            chosen = (tier_of == k) & scored
            if chosen.sum() < 50 or len(np.unique(rows.target[origin[chosen]])) < 2:
                chosen = scored
            tier.slope, tier.intercept = fit_logistic(raw[chosen], rows.target[origin[chosen]], weight[chosen])
        return learned, body


def crossfit(recipe, signature, rows, labels, requests, origin, weight) -> tuple[np.ndarray, np.ndarray]:
    """Margins of requests whose group the head has not seen, and their coverage."""
    raw, coverage = None, np.empty(len(requests))
    for train, test in group_folds(rows.group, recipe.folds, SEED):
        inner, where = np.isin(origin, train), np.flatnonzero(np.isin(origin, test))
        learned = recipe.learn(signature, rows.take(train))
        head = recipe.point.train(learned.transform(requests[inner]).columns, labels[origin[inner]], weight[inner])
        matrix = learned.transform(requests.iloc[where])
        values = margin(head, matrix.columns).astype(np.float64)
        if raw is None:
            raw = np.empty((len(requests), *values.shape[1:]))
        raw[where], coverage[where] = values, matrix.coverage
    return raw, coverage


def fit_logistic(score: np.ndarray, event: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and intercept with the least weighted log loss, with the score on its own scale."""
    center, scale = float(np.average(score, weights=weight)), float(score.std() + 1e-9)
    standard = (score - center) / scale

    def loss(x):
        logit = x[0] * standard + x[1]
        return np.sum(weight * (np.logaddexp(0, logit) - event * logit)) + 0.5 * (x[0] - 1) ** 2 + 0.005 * x[1] ** 2

    best = minimize(loss, (1.0, 0.0), method="L-BFGS-B", bounds=((0.02, 10), (-10, 10)))
    return float(best.x[0] / scale), float(best.x[1] - best.x[0] * center / scale)


# === classes ===


@dataclass(frozen=True)
class Classes(Recipe):
    """Probabilities of classes, calibrated by temperature and bias on cross-fitted margins."""

    count: int = 0

    def learn(self, signature: Signature, rows: Rows) -> Signature:
        """Vocabularies and codes of the training rows."""
        return signature.learn(rows.frame, rows.target.astype(np.float64))

    def fit(self, signature: Signature, rows: Rows) -> tuple[Signature, Body]:
        """Fits a body to rows."""
        rows = rows.take(np.arange(0, len(rows), self.thin))
        point = replace(self.point, objective="multi:softprob", more={**self.point.more, "num_class": self.count})
        recipe = replace(self, point=point)
        requests, origin, weight, _ = self.styles.expand(rows)
        learned = self.learn(signature, rows)
        head = point.train(learned.transform(requests).columns, rows.target[origin], weight)
        raw, coverage = crossfit(recipe, signature, rows, rows.target, requests, origin, weight)
        body = Body(head, [Tier(c) for c in self.tiers], "temperature and bias on cross-fitted margins by coverage")
        tier_of, scored = body.tier_of(coverage), rows.evaluated[origin]
        for k, tier in enumerate(body.tiers):
            chosen = (tier_of == k) & scored
            if chosen.sum() < 100:
                chosen = scored
            tier.temperature, tier.bias = fit_temperature(raw[chosen], rows.target[origin[chosen]], weight[chosen])
        return learned, body


def fit_temperature(score: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Temperature and biases with the least weighted log loss, the biases lightly held at 0."""
    rows, count = np.arange(len(score)), score.shape[1]

    def loss(x):
        logits = score / np.exp(x[0]) + np.append(x[1:], 0.0)
        top = logits.max(axis=1)
        norm = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return np.sum(weight * (norm - logits[rows, target.astype(int)])) + 0.05 * np.sum(x**2)

    best = minimize(loss, np.zeros(count), method="L-BFGS-B", bounds=[(-2, 2)] + [(-3, 3)] * (count - 1))
    return float(np.exp(best.x[0])), tuple(float(b) for b in np.append(best.x[1:], 0.0))
