#!/usr/bin/env python3
"""Writes a version of a model on a logarithmic scale whose answers are a factor of what they were.

`rescaled_model.py models/zoo/ev-range /tmp/corrected 1.004` stands for a version that was trained anew, with a bias taken
out; 0.621371 for one whose target was in miles. The golden answers are the version's own, as training would write them.
"""

import json
import math
import pathlib
import re
import shutil
import sys


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("expected: rescaled_model.py MODEL_DIRECTORY NEW_DIRECTORY FACTOR")
    source, target, factor = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3])
    if not (math.isfinite(factor) and factor > 0):
        sys.exit(f"the factor is {sys.argv[3]}, expected a number above 0")
    shutil.copytree(source, target)

    manifest = (target / "manifest.toml").read_text(encoding="utf-8")
    if 'link = "exp"' not in manifest:
        sys.exit(f"{source} does not answer on a logarithmic scale: its output has no link `exp`")

    def moved(found: re.Match[str]) -> str:
        return f"{found[1]}{float(found[2]) + math.log(factor)!r}"

    manifest, count = re.subn(r"(^\[linear\]\nintercept = )(\S+)", moved, manifest, flags=re.MULTILINE)
    if count != 1:
        sys.exit(f"{source}/manifest.toml has {count} tables [linear] with an intercept, expected 1")
    manifest = re.sub(r'(^description = ".*?)"$', rf'\1 Rescaled by {factor}."', manifest, count=1, flags=re.MULTILINE)
    (target / "manifest.toml").write_text(manifest, encoding="utf-8")

    golden = json.loads((target / "golden.json").read_text(encoding="utf-8"))
    low, high = map(float, re.search(r'^link = "exp"\nrange = \[(\S+), (\S+)\]', manifest, flags=re.MULTILINE).groups())
    cases = []
    for case in golden["cases"]:
        scaled = {name: value * factor for name, value in (case["expected"] or {}).items()}
        # What is clamped to the plausible range tells nothing of the scale.
        if any(not low < value < high for value in [*scaled.values(), *(case["expected"] or {}).values()]):
            continue
        cases.append({**case, "expected": scaled or None})
    golden["cases"] = cases
    (target / "golden.json").write_text(json.dumps(golden), encoding="utf-8")


if __name__ == "__main__":
    main()
