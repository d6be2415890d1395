"""The mark of images in memory sees every image, however they are held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from cnnlens.data.memory import memory_images, opened_images

N = 40  # more than are ever sampled


def tensor(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (N, 3, 6, 6), generator=draw).byte()


class Made(Dataset[Tensor]):
    """A Dataset that computes its items, counts them, and keeps them."""

    def __init__(self, images: Tensor, gain: int = 1, chance: bool = False) -> None:
        self.images, self.gain, self.chance = images, gain, chance
        self.cache: dict[int, Tensor] = {}
        self.read = 0

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Tensor:
        self.read += 1
        if index not in self.cache or self.chance:
            noise = torch.randint(0, 9, (3, 6, 6)).byte() if self.chance else 0
            self.cache[index] = self.images[index] // 2 * self.gain + noise
        return self.cache[index]


class Mirrored(Dataset[Tensor]):
    """Every second image is mirrored, by chance."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Tensor:
        return tensor()[index].flip(2) if torch.rand(()) < 0.5 else tensor()[index]


HELD: dict[str, Callable[[Tensor], Any]] = {
    "list": list,
    "tuple of arrays": lambda t: tuple(t.permute(0, 2, 3, 1).numpy().copy()),
    "tensor": torch.clone,
    "floats": lambda t: t / 255,
    "half": lambda t: (t / 255).bfloat16(),
    "array": lambda t: t.permute(0, 2, 3, 1).numpy().copy(),
    "TensorDataset": lambda t: TensorDataset(t, torch.arange(N) % 3),
    "Subset": lambda t: Subset(TensorDataset(t, torch.arange(N)), range(N)),
    "ConcatDataset": lambda t: ConcatDataset([list(t[:9]), TensorDataset(t[9:], t[9:])]),
    "pictures": lambda t: [Image.fromarray(a) for a in t.permute(0, 2, 3, 1).numpy()],
    "what a Dataset holds": Made,
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("index", [6, N - 2])
def test_every_image_is_seen_however_it_is_held(held: str, index: int) -> None:
    make, images = HELD[held], tensor()
    first = memory_images(make(images)).fingerprint
    assert memory_images(make(images)).fingerprint == first
    images[index, 1, 3, 3] ^= 255
    assert memory_images(make(images)).fingerprint != first


def mark(items: Sequence[Any]) -> str:
    return memory_images(items).fingerprint


def test_large_images_are_seen_whole() -> None:
    large = [np.zeros((1200, 1200, 3), np.uint8) for _ in range(70)]  # more than 256 MB
    first = mark(large)
    for channel in range(3):
        large[-1][700, 701, channel] = 1
        assert mark(large) != first
        large[-1][700, 701, channel] = 0


def test_palettes_belong_to_pictures() -> None:
    def picture(palette: list[int]) -> Image.Image:
        one = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).convert("P")
        one.putpalette(palette)
        return one

    rising = [value // 3 for value in range(768)]
    assert mark([picture(rising)]) == mark([picture(rising)]) != mark([picture(rising[::-1])])


def test_what_a_dataset_is_counts_and_what_it_keeps_of_being_read_does_not() -> None:
    images = tensor()
    data = Made(images)
    first = mark(data)
    for index in range(N):
        data[index]
    assert mark(data) == first == mark(Made(images))
    data.gain = 2
    assert mark(data) != first


def test_what_is_a_sample_is_said_and_what_is_whole_is_not() -> None:
    assert memory_images(tensor()).notes == ()
    (said,) = memory_images(Made(tensor())).notes
    assert "16 of 40 items" in said and "force=True" in said
    (said,) = memory_images(Made(tensor(), chance=True)).notes
    assert "other images at each reading" in said


@pytest.mark.parametrize("seed", range(6))
def test_what_half_of_the_readings_change_is_noticed(seed: int) -> None:
    torch.manual_seed(seed)
    (said,) = memory_images(Mirrored()).notes
    assert "other images at each reading" in said


def test_what_was_left_out_of_a_data_set_does_not_hide_what_it_is() -> None:
    data = [(image, -1 if place == 3 else 0) for place, image in enumerate(tensor())]

    class Labelled(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return N

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return data[index]

    assert "Labelled computes its items" in memory_images(Labelled()).notes[-1]


def test_opened_images_are_hashed_once_and_named_by_it() -> None:
    images = opened_images(list(tensor()))
    assert images.name == f"images-{images.fingerprint[:6]}"
    assert images.fingerprint == mark(tensor())
