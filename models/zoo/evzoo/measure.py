"""Measures a model, its baseline and a naive answer on the same pooled group folds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, roc_auc_score
from tqdm import tqdm

from .data import Rows
from .model import Model
from .recipes import SEED
from .scores import calibration_error
from .signature import masked

STYLES = ("full", "minimal", "partial")
COVERAGE = (0.75, 0.87)
CALIBRATION_ERROR = 0.1


@dataclass
class Pool:
    """Answers to held-out rows, pooled over all folds."""

    answer: dict[str, np.ndarray] = field(default_factory=dict)
    tier: dict[str, np.ndarray] = field(default_factory=dict)
    halfwidth: dict[str, np.ndarray] = field(default_factory=dict)
    baseline: np.ndarray | None = None
    naive: np.ndarray | None = None
    held_out: np.ndarray | None = None


@dataclass
class Part:
    """Figures of one part and style of request."""

    part: str
    style: str
    rows: int
    groups: int
    figures: dict[str, float]
    failures: list[str]


def pooled(model: Model, rows: Rows, folds=None, note: str = "folds") -> Pool:
    """Trains on each fold and collects what was answered to the rest of it."""
    pool, count = Pool(held_out=np.zeros(len(rows), bool)), len(rows)
    for train, test in tqdm(folds or model.outer_folds(rows), desc=f"{model.name}: {note}", unit="fold", leave=False):
        learn, judge = rows.take(train), rows.take(test)
        fitted = model.fit(learn)
        requests = {
            "full": judge.frame,
            "minimal": model.least(judge.frame),
            "partial": masked(judge.frame, [*model.signature.required, *model.always], np.random.default_rng(SEED)),
        }
        for style, frame in requests.items():
            answer, tier = fitted.answer(frame)
            if style not in pool.answer:
                pool.answer[style] = np.full((count, answer.shape[1]), np.nan)
                pool.tier[style] = np.zeros(count, int)
                pool.halfwidth[style] = np.full(count, np.nan)
            pool.answer[style][test], pool.tier[style][test] = answer, tier
            for body in fitted.bodies.values():
                for part in np.unique(judge.part):
                    width = body.halfwidth.get(f"{part}/{style}", None if model.variant_by else body.halfwidth.get(f"/{style}"))
                    if width is not None:
                        pool.halfwidth[style][test[judge.part == part]] = width
        for name, answers in (("baseline", model.baseline(learn, judge)), ("naive", model.naive(learn, judge))):
            if getattr(pool, name) is None:
                setattr(pool, name, np.full((count, *answers.shape[1:]), np.nan))
            getattr(pool, name)[test] = answers
        pool.held_out[test] = True
    return pool


def measure(model: Model, rows: Rows, pool: Pool) -> list[Part]:
    """Figures and missed bars for every part, for full and minimal requests."""
    parts = []
    for part in dict.fromkeys(rows.part):
        chosen = (rows.part == part) & rows.evaluated & pool.held_out
        if not chosen.any():
            continue
        for style in ("full", "minimal"):
            figures = SCORES[model.output.kind](model, rows, pool, style, chosen)
            found = Part(part, style, int(chosen.sum()), len(np.unique(rows.group[chosen])), figures, [])
            found.failures = list(failures(model, found))
            parts.append(found)
    return parts


def quantile_scores(model: Model, rows: Rows, pool: Pool, style: str, chosen: np.ndarray) -> dict[str, float]:
    """Errors of the median, and coverage and width of the interval beside the constant-width conformal one."""
    truth, answer = rows.target[chosen].astype(float), pool.answer[style][chosen]
    middle, half = answer[:, 1], pool.halfwidth[style][chosen]
    base, naive = pool.baseline[chosen], pool.naive[chosen]
    inside, miss = (truth >= answer[:, 0]) & (truth <= answer[:, 2]), np.abs(truth - middle)
    return {
        "mae": mean_absolute_error(truth, middle),
        "mae_baseline": mean_absolute_error(truth, base),
        "mae_naive": mean_absolute_error(truth, naive),
        "r2": r2_score(truth, middle),
        "r2_baseline": r2_score(truth, base),
        "mape": float(np.mean(np.abs(middle / truth - 1))) if (truth > 0).all() else float("nan"),
        "mape_baseline": float(np.mean(np.abs(base / truth - 1))) if (truth > 0).all() else float("nan"),
        "mape_naive": float(np.mean(np.abs(naive / truth - 1))) if (truth > 0).all() else float("nan"),
        "coverage": float(inside.mean()),
        "width": float(np.mean(answer[:, 2] - answer[:, 0])),
        "constant_coverage": float(np.mean(miss <= half)),
        "constant_width": float(np.mean(2 * half)),
        "equal_width": float(2 * np.quantile(miss, inside.mean())),
    }


def probability_scores(model: Model, rows: Rows, pool: Pool, style: str, chosen: np.ndarray) -> dict[str, float]:
    """Ranking and calibration of a probability."""
    truth, answer = rows.target[chosen], pool.answer[style][chosen][:, 0]
    return {
        "auc": roc_auc_score(truth, answer),
        "auc_baseline": roc_auc_score(truth, pool.baseline[chosen]),
        "auc_naive": 0.5,
        "brier": float(np.mean((answer - truth) ** 2)),
        "brier_baseline": float(np.mean((pool.baseline[chosen] - truth) ** 2)),
        "brier_naive": float(np.mean((pool.naive[chosen] - truth) ** 2)),
        "calibration_error": calibration_error(answer, truth),
        "calibration_error_baseline": calibration_error(pool.baseline[chosen], truth),
        "rate": float(truth.mean()),
    }


def class_scores(model: Model, rows: Rows, pool: Pool, style: str, chosen: np.ndarray) -> dict[str, float]:
    """Macro-F1, accuracy and calibration of the likeliest class."""
    truth, answer, base = rows.target[chosen].astype(int), pool.answer[style][chosen], pool.baseline[chosen]
    best, present = answer.argmax(axis=1), np.unique(truth)
    naive = pool.naive[chosen].astype(int)
    score = {"labels": present, "average": "macro", "zero_division": 0}
    return {
        "macro_f1": f1_score(truth, best, **score),
        "macro_f1_baseline": f1_score(truth, base.argmax(axis=1), **score),
        "macro_f1_naive": f1_score(truth, naive, **score),
        "accuracy": float(np.mean(best == truth)),
        "accuracy_baseline": float(np.mean(base.argmax(axis=1) == truth)),
        "accuracy_naive": float(np.mean(naive == truth)),
        "calibration_error": calibration_error(answer.max(axis=1), best == truth),
        "calibration_error_baseline": calibration_error(base.max(axis=1), base.argmax(axis=1) == truth),
    }


SCORES = {"quantiles": quantile_scores, "probability": probability_scores, "classes": class_scores}


def failures(model: Model, found: Part):
    """The bars that are missed, in words."""
    f, bar = found.figures, model.bars.get(found.part)
    if bar and found.style == "full":
        name = bar.score
        if bar.against is not None:
            if f[name] > bar.against:
                yield f"{name} {f[name]:.4g} is above {bar.against:.4g}"
        elif name == "mae":
            if f["mae"] > 0.9 * f["mae_baseline"] and f["r2"] < f["r2_baseline"] + 0.02:
                yield "neither MAE 10 % below nor R2 0.02 above the baseline"
        elif f[name] < f[f"{name}_baseline"] + 0.02:
            yield f"{name} is not 0.02 above the baseline"
    if "coverage" in f:
        if not COVERAGE[0] <= f["coverage"] <= COVERAGE[1]:
            yield f"interval covers {f['coverage']:.1%}, not 75 to 87 %"
        # A constant width that does not hold what it promises is no yardstick; then the one of equal coverage is.
        valid = f["constant_coverage"] >= COVERAGE[0]
        if found.style == "full" and not f["width"] < f["constant_width" if valid else "equal_width"]:
            yield f"interval is not narrower than the constant-width {'conformal one' if valid else 'one of equal coverage'}"
    if f.get("calibration_error", 0.0) > CALIBRATION_ERROR:
        yield f"calibration error {f['calibration_error']:.3f} is above {CALIBRATION_ERROR}"


def measured_tiers(model: Model, rows: Rows, pool: Pool, bodies: dict) -> None:
    """Writes what was measured on held-out groups into each calibration tier."""
    for value, body in bodies.items():
        mine = rows.evaluated & pool.held_out
        if value:
            mine = mine & (rows.frame[model.variant_by].to_numpy(object) == value)
        for k, tier in enumerate(body.tiers):
            answers, truths = [], []
            for style in STYLES:
                chosen = mine & (pool.tier[style] == k)
                answers.append(pool.answer[style][chosen])
                truths.append(rows.target[chosen])
            answer, truth = np.concatenate(answers), np.concatenate(truths)
            if not len(truth):
                continue
            if model.output.kind == "quantiles":
                inside = (truth >= answer[:, 0]) & (truth <= answer[:, 2])
                width = np.mean(answer[:, 2] - answer[:, 0])
                tier.measured = {"coverage": round(float(inside.mean()), 4), "mean_width": round(float(width), 4)}
            elif model.output.kind == "probability":
                tier.measured = {"calibration_error": round(calibration_error(answer[:, 0], truth), 4)}
            else:
                hit = answer.argmax(axis=1) == truth
                tier.measured = {"calibration_error": round(calibration_error(answer.max(axis=1), hit), 4)}
