"""`python -m evzoo train MODEL --data FOLDER` and `python -m evzoo eval --data FOLDER [--model MODEL]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from .data import DataFolder
from .errors import ZooError
from .model import load_model, names
from .report import lines
from .build import evaluate, train


def main() -> int:
    """Runs a command; 1 when a bar is missed, 2 when something has to be put right first."""
    parser = argparse.ArgumentParser(prog="evzoo", description="Train and measure the bundled models.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="measure, train and write a model's files")
    training.add_argument("model", nargs="+", help="names of models, or `all`")
    evaluation = commands.add_parser("eval", help="measure models against baselines on the same group folds")
    evaluation.add_argument("--model", action="append", help="only this model; may be repeated")
    for command in (training, evaluation):
        command.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    """Runs the chosen command over the chosen models."""
    chosen = arguments.model or names()
    if chosen == ["all"]:
        chosen = names()
    models, missed = [load_model(name) for name in chosen], 0
    for model in tqdm(models, desc=arguments.command, unit="model", disable=len(models) == 1):
        started, data = time.monotonic(), DataFolder(arguments.data)
        parts = train(model, data) if arguments.command == "train" else evaluate(model, data)[2]
        for line in lines(model, parts):
            tqdm.write(line)
        missed += sum(len(part.failures) for part in parts)
        tqdm.write(f"{model.name}: {time.monotonic() - started:.0f} s")
    if missed:
        tqdm.write(f"{missed} bars missed")
    return int(bool(missed) and arguments.command == "eval")


if __name__ == "__main__":
    sys.exit(main())
