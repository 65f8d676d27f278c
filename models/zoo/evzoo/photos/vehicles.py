"""Fine-tunes a network on the vehicle photos, with the photos of known make beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .chain import Chain
from .data import Photos
from .fitting import Schedule, train
from .model import MAKE, Corpus


@dataclass(frozen=True)
class Recipe:
    """Shares of a batch and weights of the losses."""

    schedule: Schedule
    same_make: int = 0
    """Photos of the shared make in a batch, whose classes' probabilities have to sum to 1."""
    other_makes: int = 0
    """Photos of other makes in a batch, which no class may claim: all shall be as probable."""
    make_weight: float = 0.5
    other_weight: float = 0.3
    smoothing: float = 0.1


def fine_tune(network: nn.Module, recipe: Recipe, corpus: Corpus, index: np.ndarray, chain: Chain, seed: int, note: str):
    """The network after training on the vehicle photos at `index`."""
    vehicles, makes = corpus.train.take(index), corpus.makes
    # Positions beyond the vehicles' are of makes.
    together = Photos(vehicles.images + makes.images, vehicles.labels, vehicles.classes, [], vehicles.hashes)
    same = np.flatnonzero(makes.labels == makes.classes.index(MAKE))
    other = np.flatnonzero(makes.labels != makes.classes.index(MAKE))
    own = torch.tensor([name.startswith(MAKE.upper()) for name in vehicles.classes])
    batch, labels = recipe.schedule.batch, torch.from_numpy(vehicles.labels)

    def batches(rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(len(vehicles))
        for part in order[: len(order) // batch * batch].reshape(-1, batch):
            extra = np.r_[rng.choice(same, recipe.same_make, replace=False), rng.choice(other, recipe.other_makes, replace=False)]
            yield np.r_[part, len(vehicles) + extra]

    def loss(network: nn.Module, views: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        logits = network(views)
        likelihood = functional.log_softmax(logits, dim=1)
        value = functional.cross_entropy(logits[:batch], labels[index[:batch]], label_smoothing=recipe.smoothing)
        makes, others = likelihood[batch : batch + recipe.same_make], likelihood[batch + recipe.same_make :]
        if len(makes):
            value = value - recipe.make_weight * torch.logsumexp(makes[:, own], dim=1).mean()
        if len(others):
            value = value - recipe.other_weight * others.mean()
        return value

    return train(network, recipe.schedule, together, chain, loss, seed, note, batches)
