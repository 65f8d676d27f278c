"""Prints measured figures of photo models, and writes their cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import KEPT, Figures

if TYPE_CHECKING:
    from .build import Measured, Side
    from .model import PhotoModel

RIGHTS = """
- `ev_images_8class`: 158 training and 23 test photos, collected from the web by the MIT-licensed project `nutkung1/FinalProjectCPE393`; the photographers' rights are not stated.
- `car_make_images_3class`: photos of Ford, Tesla and Toyota whose make only is known, gathered from web image search by `brycekan123/Multi-Class-Car-Image-Classifier`; no licence is stated, its README says for research and testing only. The ConvNeXt V2 learns from 1,679 of the training photos; the unknown flag of both models is measured on the 329 test photos of Ford and Toyota.
- `backbone_mobilenetv2_imagenet`: Keras Applications' MobileNetV2 (Apache-2.0), in the int8 form of `phil137786/optimizing-models`, which states no licence, turned back into float32.
- `ev_range_nrcan`: Natural Resources Canada's fuel consumption ratings, Open Government Licence - Canada.
- The photos' rights are those of their authors; none is in this repository, and the golden pictures are drawn by a script.
- So the weights are fit for demonstration, for testing the server and for research; before they go into a product, somebody has to clear the photos' rights or train again on photos that are cleared.
"""


def lines(model: PhotoModel, sides: list[Side]) -> list[str]:
    """The evaluation as text, a line per set of photos."""
    out = []
    for side in sides:
        m, b, n = side.model, side.baseline, side.naive
        score = f"top-1 {m.hits}/{m.photos} {m.accuracy:.3f} (baseline {b.hits} {b.accuracy:.3f}, naive {n.hits} {n.accuracy:.3f}), "
        score += f"macro-F1 {m.macro_f1:.3f} ({b.macro_f1:.3f}, {n.macro_f1:.3f}), top-3 {m.top3:.3f} ({b.top3:.3f}), "
        score += f"make {m.make:.3f} ({b.make:.3f}); calibration error {m.calibration_error:.3f} ({b.calibration_error:.3f})"
        verdict = "ok" if not side.failures else "MISSED: " + "; ".join(side.failures)
        out.append(f"{model.name:30} {side.name:27} {score}  [{verdict}]")
    return out


def card(model: PhotoModel, measured: Measured, facts: list[dict]) -> str:
    """`README.md`, the model card."""
    test, folds = measured.sides
    text = [f"# {model.name}", "", model.description, ""]
    text += [f"<!-- Written by `make train MODEL={model.name}`; change train.py instead. -->", ""]
    for title in ("What it answers", "Intended use"):
        text += [f"## {title}", "", model.card[title].strip(), ""]
    text += ["## Classes", "", *classes(facts), ""]
    text += ["## Measured", "", "Baseline: the frozen ImageNet backbone with a linear head: logistic regression (C = 0.01) on"]
    text[-1] += " its 1,280 features of the training photos and their mirror images, at 224 by 224 pixels."
    text += ["Naive: the most frequent class of the training photos."]
    text += ["Out of fold: StratifiedGroupKFold(5) of the training photos; photos whose 64-bit difference hashes, mirrored or not,"]
    text[-1] += " differ in at most 8 bits stand in one fold."
    text += ["", *table(measured.sides), ""]
    missed = [f"- {side.name}: {failure}." for side in measured.sides for failure in side.failures]
    if model.bar is None:
        text += ["No bar but that of the calibration error is set for this model."]
    text += ["All bars of `make eval` are met." if not missed else "Bars of `make eval` that are missed:", *missed]
    text += ["With 23 photos one photo is 4.3 points: the intervals say how little that settles.", ""]
    for side in measured.sides:
        text += [f"### Confusions, {side.name}", "", *confusions(side, measured.classes), ""]
    text += ["## Calibration", "", *calibration(measured, folds.model), "", "## Unknown cars", "", *flag(measured), ""]
    if measured.variants:
        text += ["## Variants", "", *variants(measured.variants), "", model.card["Choice"].strip(), ""]
    parts = model.card | {"Data and rights": RIGHTS}
    for title in ("How it works", "Data and rights", "What would be a leak", "Limits"):
        text += [f"## {title}", "", parts[title].strip(), ""]
    text += ["## Reproduce", "", f"`make train MODEL={model.name} DATA=<data folder>` writes everything in this folder;"]
    text[-1] += f" it took {measured.minutes:.0f} minutes of one core's time, the folds included."
    text += [f"`make eval MODEL={model.name} DATA=<data folder>` measures the files on the test photos in a minute,"]
    text[-1] += " with `FOLDS=1` it trains and measures the folds again as well."
    text += ["Seeds are fixed and one thread computes; another processor rounds differently, which can move a few photos."]
    text += ["", "## Licence", "", f"Model: {model.license}. Labels: {model.nature}.", ""]
    return "\n".join(text)


def classes(facts: list[dict]) -> list[str]:
    """Classes with the facts that answers carry."""
    rows = ["| class | make | model | range, km: lowest, median, highest | source |", "|---|---|---|---|---|"]
    for fact in facts:
        ranges = ", ".join(f"{value:.0f}" for value in fact.get("typical_range_km", [])) or "not known"
        rows.append(f"| {fact['class']} | {fact['make']} | {fact['model']} | {ranges} | {fact.get('range_source', '')} |")
    rows += ["", "Ranges are over all trims and model years in the list, which a photo does not tell apart."]
    return [*rows, "They contain information licensed under the Open Government Licence - Canada."]


def table(sides: list[Side]) -> list[str]:
    """The measured figures as a Markdown table."""
    head = ["photos", "answer", "top-1", "accuracy", "95 % interval", "macro-F1", "top-3", "make", "calibration error"]
    rows = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for side in sides:
        for name in ("model", "baseline", "naive"):
            f: Figures = getattr(side, name)
            low, high = f.interval
            cells = [side.name, name, f"{f.hits} / {f.photos}", f"{f.accuracy:.3f}", f"{low:.2f} to {high:.2f}"]
            cells += [f"{f.macro_f1:.3f}", f"{f.top3:.3f}", f"{f.make:.3f}", f"{f.calibration_error:.3f}"]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def confusions(side: Side, names: tuple[str, ...]) -> list[str]:
    """Photos of each class by the class answered."""
    rows = [f"| photos of | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for name, counts in zip(names, side.matrix):
        rows.append(f"| {name} | {' | '.join(str(count) if count else '' for count in counts)} |")
    return rows


def calibration(measured: Measured, folds: Figures) -> list[str]:
    """How probabilities are made."""
    return [
        f"Logits are divided by {measured.heat:.2f}, fitted on all out-of-fold logits.",
        f"The expected calibration error out of fold was {measured.raw_error:.3f} before and is {folds.calibration_error:.3f} after,"
        " each fold at the temperature of the other folds.",
        "On 23 photos no calibration can be judged; the figure above is there for completeness.",
    ]


def flag(measured: Measured) -> list[str]:
    """What the unknown flag does."""
    u = measured.unknown
    others = " and ".join(f"{share:.0%} of the {make} photos" for make, share in u.others.items())
    return [
        f"An answer whose likeliest class has a probability below {u.threshold:.3f} is flagged as unknown.",
        f"The threshold keeps {KEPT:.0%} of the rightly answered photos out of fold; {u.wrong:.0%} of the wrongly answered ones are flagged.",
        f"Of cars that are no class, the test photos of the makes data set, {others} are flagged.",
        f"Of the supplied test photos {measured.unknown_test:.0%} are flagged.",
        f"Area under the curve of known cars against those: {u.area:.2f} by this probability, {u.area_energy:.2f} by the logits' log-sum-exp:"
        f" {verdict(u.area, u.area_energy)}.",
    ]


def verdict(area: float, energy: float) -> str:
    """What the two scores are worth; 0.5 is a coin's."""
    if max(area, energy) < 0.6:
        return "neither tells them apart"
    if energy > area + 0.02:
        return "the latter is better, but the manifest has the probability only"
    return "the latter is no better"


def variants(found: list[dict]) -> list[str]:
    """Forms of the artifact."""
    head = ["form", "size, MB", "top-1 out of fold", "top-1 test", "largest difference of a logit", "one photo, one thread, ms"]
    rows = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for v in found:
        cells = [v["name"], f"{v['size'] / 1e6:.1f}", f"{v['folds']} / {v['folds_photos']}", f"{v['test']} / {v['test_photos']}"]
        cells += [f"{v['difference']:.2g}", f"{v['milliseconds']:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows
