"""Trains a network on photos: relative steps, a cosine schedule, and the running average of the weights as the result."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from tqdm import tqdm

from .chain import Augmentation, Chain
from .data import Photos

CACHE = Path(__file__).resolve().parents[4] / ".cache/evzoo"
"""Trained networks, so that a command that was interrupted goes on, and that a student finds its teachers."""


@dataclass(frozen=True)
class Schedule:
    """How long, in what steps and on what views a network is trained."""

    epochs: int
    size: int
    """Side of the views, in pixels; smaller than what is served costs less time than it costs accuracy."""
    batch: int = 16
    rate: float = 2e-3
    """Largest step of a tensor's weights, as a share of their root mean square.

    With the batch norms folded in, the tensors' scales differ by a factor of a hundred, and a step of one size for all
    of them destroys some and does not move others.
    """
    head_rate: float = 1e-3
    average: float = 0.98
    """How much of the running average a step keeps."""
    warmup: int = 20
    decay: float = 0.0
    relative: bool = True
    augmentation: Augmentation = Augmentation()


Loss = Callable[[nn.Module, torch.Tensor, np.ndarray], torch.Tensor]
"""From network, views and the photos' positions to what is to become small."""


def shuffled(count: int, batch: int) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
    """Batches of all positions in random order; the rest of a division is left to the next epoch."""

    def epoch(rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(count)
        yield from order[: count // batch * batch].reshape(-1, batch)

    return epoch


def train(network: nn.Module, plan: Schedule, photos: Photos, chain: Chain, loss: Loss, seed: int, note: str, batches=None):
    """The average of the weights that the network went through; `network` itself is used up."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    batches = batches or shuffled(len(photos), plan.batch)
    per_epoch = sum(1 for _ in batches(np.random.default_rng(0)))
    steps, done = per_epoch * plan.epochs, 0
    optimiser = torch.optim.AdamW(groups(network, plan), betas=(0.9, 0.99))
    average = copy.deepcopy(network)
    network.train()
    with tqdm(total=steps, desc=note, unit="step", leave=False, mininterval=5) as bar:
        for _ in range(plan.epochs):
            for index in batches(rng):
                share = min(1.0, (done + 1) / plan.warmup) * 0.5 * (1 + np.cos(np.pi * done / steps))
                for group in optimiser.param_groups:
                    group["lr"] = group["base"] * share
                views = np.stack([plan.augmentation(photos.images[i], plan.size, chain, rng) for i in index])
                value = loss(network, tensor(views), index)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                done += 1
                keep = min(plan.average, (1 + done) / (10 + done))
                with torch.no_grad():
                    for mean, weight in zip(average.parameters(), network.parameters()):
                        mean.lerp_(weight, 1 - keep)
                bar.update()
                bar.set_postfix(loss=f"{value.item():.3f}", refresh=False)
    return average.eval()


def groups(network: nn.Module, plan: Schedule) -> list[dict]:
    """A step size per tensor."""
    head, found = {id(weight) for weight in network.head.parameters()}, []
    for weight in network.parameters():
        rate, decay = plan.rate, plan.decay if weight.ndim > 1 else 0.0
        if id(weight) in head:
            rate = plan.head_rate
        elif plan.relative:
            rate *= max(float(weight.detach().square().mean().sqrt()), 1e-3)
        found.append({"params": [weight], "lr": rate, "base": rate, "weight_decay": decay})
    return found


def tensor(views: np.ndarray) -> torch.Tensor:
    """Numbers in the layout that convolutions like best."""
    return torch.from_numpy(views).contiguous(memory_format=torch.channels_last)


def cross_entropy(labels: np.ndarray, classes: int, smoothing: float) -> Loss:
    """Of the photos' own labels."""
    labels = torch.from_numpy(labels)
    measure = nn.CrossEntropyLoss(label_smoothing=smoothing)
    return lambda network, views, index: measure(network(views), labels[index])


def each(function, photos: Photos, chain: Chain, mirrored: bool = False) -> np.ndarray:
    """What `function` makes of every photo as it would be served, or of its mirror image."""
    found = []
    with torch.no_grad():
        for start in range(0, len(photos), 16):
            views = tensor(np.stack([chain(image) for image in photos.images[start : start + 16]]))
            found.append(function(views.flip(3) if mirrored else views).numpy())
    return np.concatenate(found)


def linear_head(network: nn.Module, photos: Photos, chain: Chain, strength: float = 0.01) -> None:
    """Sets the head to a logistic regression on the features as they are: from there the first steps do no harm."""
    features = np.concatenate([each(network.features, photos, chain, side) for side in (False, True)])
    fitted = LogisticRegression(C=strength, max_iter=5000).fit(features, np.tile(photos.labels, 2))
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(fitted.coef_))
        network.head.bias.copy_(torch.from_numpy(fitted.intercept_))


def kept(network: nn.Module, key: tuple, fit: Callable[[], nn.Module], reuse: bool) -> nn.Module:
    """The network that `fit` gives; with `reuse`, from the cache if this very code trained it on these very photos.

    `key` names whatever else decides, such as the recipe and the source of the loss.

    `seconds` of the network is the processor time that its training took.
    """
    digest = hashlib.sha256(repr(key).encode())
    own = {inspect.getsourcefile(type(part)) for part in network.modules() if type(part).__module__.startswith(__package__)}
    for source in (*sorted(own), "chain.py", "data.py", "fitting.py"):
        digest.update((Path(__file__).parent / source).read_bytes())
    file = CACHE / f"{digest.hexdigest()[:32]}.pt"
    if reuse and file.is_file():
        content = torch.load(file, weights_only=True)
        network.load_state_dict(content["weights"])
        network.seconds = content["seconds"]
        return network.eval()
    started = time.process_time()
    trained = fit()
    trained.seconds = time.process_time() - started
    if reuse:
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        torch.save({"weights": trained.state_dict(), "seconds": trained.seconds}, partial)
        partial.replace(file)
    return trained
