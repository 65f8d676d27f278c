"""Reads the photos, and finds those that are nearly the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from sklearn.model_selection import StratifiedGroupKFold

from ..data import DataFolder
from .chain import opened

VEHICLES = "ev_images_8class"
MAKES = "car_make_images_3class"
NEAR = 8
"""Bits of 64 in which the difference hashes of two photos may differ and still count as near duplicates; the closest
photos of different cars differ in 5, so this errs on the side of keeping pictures together."""
FOLDS = 5


@dataclass
class Photos:
    """Photos in memory with their class numbers; `hashes` are of the photo and of its mirror image."""

    images: list[Image.Image]
    labels: np.ndarray
    classes: tuple[str, ...]
    names: list[str]
    hashes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index) -> Photos:
        """The photos at these positions."""
        index = np.asarray(index, int)
        names = [self.names[i] for i in index]
        return Photos([self.images[i] for i in index], self.labels[index], self.classes, names, self.hashes[index])

    def groups(self) -> np.ndarray:
        """A number per photo, shared by near duplicates."""
        near = distances(self, self) <= NEAR
        group = np.arange(len(self))
        for first, second in zip(*np.nonzero(np.triu(near, 1))):
            group[group == group[second]] = group[first]
        return group

    def folds(self, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Train and test positions; every fold has its share of each class, and near duplicates stay together."""
        split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        return list(split.split(self.labels, self.labels, self.groups()))


def photos(data: DataFolder, name: str, split: str) -> Photos:
    """The photos of a data set's `train` or `test` folder, in the order of their names."""
    table = data.csv(f"{name}/manifest.csv")
    table = table[table["split"] == split].sort_values("file")
    classes = tuple(sorted(table["class"].unique()))
    images = [opened(data.read(f"{name}/{file}")) for file in table["file"]]
    labels = np.array([classes.index(label) for label in table["class"]])
    return Photos(images, labels, classes, list(table["file"]), np.array([difference_hash(image) for image in images]))


def difference_hash(image: Image.Image) -> np.ndarray:
    """Whether brightness rises from each of 8 by 8 fields to the next, for the photo and its mirror image."""
    grey = image.convert("L")
    fields = [np.asarray(side.resize((9, 8), Image.Resampling.LANCZOS)).astype(int) for side in (grey, ImageOps.mirror(grey))]
    return np.stack([(field[:, 1:] > field[:, :-1]).ravel() for field in fields])


def distances(first: Photos, second: Photos) -> np.ndarray:
    """Differing bits between the photos, mirrored or not."""
    upright = (first.hashes[:, None, 0] != second.hashes[None, :, 0]).sum(-1)
    mirrored = (first.hashes[:, None, 0] != second.hashes[None, :, 1]).sum(-1)
    return np.minimum(upright, mirrored)


def without_near(photos: Photos, others: Photos) -> Photos:
    """The photos that are no near duplicate of any of the others."""
    return photos.take(np.flatnonzero((distances(photos, others) > NEAR).all(1)))
