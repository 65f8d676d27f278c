"""`python -m evzoo.photos train MODEL --data FOLDER` and `python -m evzoo.photos eval --data FOLDER [--folds]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from ..data import DataFolder
from ..errors import ZooError
from .build import evaluate, train
from .card import lines
from .model import load_model, names


def main() -> int:
    """Runs a command; 1 when a bar is missed, 2 when something has to be put right first."""
    parser = argparse.ArgumentParser(prog="evzoo.photos", description="Train and measure the bundled photo models.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="measure, train and write a model's files; each card says how long it takes")
    training.add_argument("model", nargs="+", help="names of models, or `all`")
    evaluation = commands.add_parser("eval", help="measure the committed files and the baseline on the test photos: a minute")
    evaluation.add_argument("--model", action="append", help="only this model; may be repeated")
    evaluation.add_argument(
        "--folds", action="store_true", help="train and measure the folds as well: nearly as long as training, see the cards"
    )
    for command in (training, evaluation):
        command.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    arguments = parser.parse_args()
    # One thread gives the same sums everywhere; several would wait for each other on a busy machine.
    torch.set_num_threads(1)
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
        sides = train(model, data) if arguments.command == "train" else evaluate(model, data, arguments.folds)
        for line in lines(model, sides):
            tqdm.write(line)
        missed += sum(len(side.failures) for side in sides)
        tqdm.write(f"{model.name}: {time.monotonic() - started:.0f} s")
    if missed:
        tqdm.write(f"{missed} bars missed")
    return int(bool(missed) and arguments.command == "eval")


if __name__ == "__main__":
    sys.exit(main())
