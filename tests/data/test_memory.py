from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
    SubsetRandomSampler,
)

from cnnlens.activations.sources import ModelSource
from cnnlens.data.batches import batches
from cnnlens.data.decode import DamagedImage
from cnnlens.data.labelled import read_labelled
from cnnlens.data.memory import MemoryImages, memory_images
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.layers import find_layers
from cnnlens.model.numbered import numbered
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.settings import RunSettings

SIZE = (8, 10)
PLAIN = Preprocess(SIZE)


def photos(count: int = 5, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


FORMS = {
    "pil": Image.fromarray,
    "array": lambda a: a,
    "bytes": lambda a: torch.from_numpy(a).permute(2, 0, 1),
    "floats": lambda a: torch.from_numpy(a).permute(2, 0, 1) / 255,
}


class Pairs(Dataset):
    """As torchvision's data sets are: pairs, `classes`, and `targets` where it lists them."""

    classes = ("ant", "bee")

    def __init__(self, targets: bool = True, times: int = 1) -> None:
        self.images, self.read = photos() * times, []
        if targets:
            self.targets = [0, 1, 1, 0, 1] * times

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index >= len(self):
            raise IndexError
        self.read.append(index)
        return self.images[index], [0, 1, 1, 0, 1][index % 5]


class Column:
    """As a column of pandas is, whose rows were shuffled: they keep their number."""

    ndim = 1

    def __init__(self, rows: dict[int, Any]) -> None:
        self.rows, self.iloc = rows, list(rows.values())

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(self.rows.values())

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def test_columns_of_pandas_go_by_place_as_their_labels_do() -> None:
    order = [3, 0, 4, 1, 2]
    shuffled = Column({number: photos()[number] for number in order})
    images = memory_images(shuffled, Column(dict(zip(order, "dabec", strict=True))))
    assert images.image_categories == tuple("dabec")
    for place, number in enumerate(order):
        assert np.array_equal(np.asarray(images.load(place)), photos()[number])
    pairs = Pairs()
    pairs.targets = Column(dict(zip(order, pairs.targets, strict=True)))
    assert memory_images(Subset(pairs, [3, 1])).image_categories == ("ant", "bee")
    assert set(pairs.read) <= {3, 1}
    shuffled.ndim = 2
    with pytest.raises(UsageError, match="data is a Column, of which no image can be read"):
        memory_images(shuffled)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_an_image_are_the_same_image(form: str) -> None:
    images = memory_images([FORMS[form](a) for a in photos()], name="mine")
    assert images.paths == tuple(f"{n:04d}.png" for n in range(5))
    assert (images.name, images.kind, images.image_categories) == ("mine", "images", None)
    for index, wanted in enumerate(photos()):
        assert np.array_equal(np.asarray(images.load(index)), wanted)
    (batch,) = batches(images, PLAIN, batch_size=8, workers=2)
    wanted = torch.from_numpy(np.stack(photos())).permute(0, 3, 1, 2)
    assert batch.pixels.dtype == (torch.float32 if form == "floats" else torch.uint8)
    assert torch.equal(PLAIN.normalize(batch.pixels), PLAIN.normalize(wanted))


@pytest.mark.parametrize("form", FORMS)
def test_other_sizes_are_resampled_alike(form: str) -> None:
    images = memory_images([FORMS[form](a) for a in photos(size=(30, 40))])
    (batch,) = batches(images, PLAIN, batch_size=8, workers=0)
    (wanted,) = batches(memory_images(photos(size=(30, 40))), PLAIN, batch_size=8, workers=0)
    assert torch.allclose(PLAIN.normalize(batch.pixels), PLAIN.normalize(wanted.pixels))


def test_floats_keep_what_eight_bits_would_lose() -> None:
    exact = torch.rand(3, *SIZE)
    pixels = memory_images([exact]).pixels(0, PLAIN)
    assert np.array_equal(pixels, exact.numpy())


def test_one_data_set_gives_one_type_of_pixels() -> None:
    mixed = [FORMS["floats"](photos()[0]), photos()[1], FORMS["pil"](photos()[2])]
    for images in (memory_images(mixed), memory_images(mixed[1:] + mixed[:1])):
        (batch,) = batches(images, PLAIN, batch_size=8, workers=0)
        wanted = np.stack([np.asarray(images.load(n)).transpose(2, 0, 1) for n in range(3)])
        assert str(batch.pixels.dtype) == f"torch.{images.pixel_type(PLAIN)}"
        assert torch.equal(PLAIN.normalize(batch.pixels), PLAIN.normalize(torch.from_numpy(wanted)))


def test_floats_are_trained_on_as_they_are() -> None:
    every = [FORMS["floats"](photos()[n % 5]) for n in range(10)]
    floats = memory_images(every[:8], [n % 2 for n in range(8)])
    negatives = memory_images(photos(2))
    found = read_labelled(floats, PLAIN, negatives=negatives)
    wanted = torch.stack([*every[:8], *map(FORMS["floats"], photos(2))])
    assert torch.equal(found.pixels, wanted)


def test_grey_and_transparent_images_are_shown() -> None:
    grey = np.full(SIZE, 7, np.uint8)
    images = memory_images([grey, grey[:, :, None], Image.new("RGBA", SIZE[::-1], (0, 0, 0, 0))])
    assert [images.load(n).getpixel((0, 0))[0] for n in range(3)] == [7, 7, 255]
    assert images.pixels(0, PLAIN.with_channels(1)).shape == (1, *SIZE)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (np.zeros((3, 8, 10), np.uint8), r"uint8 \(3, 8, 10\)"),
        (np.zeros((8, 10, 3)), "float64"),
        (torch.zeros(8, 10), r"not \(C, H, W\)"),
        (torch.full((3, 8, 10), -2.0), r"(?s)from -2 to -2.*done=True"),
        (torch.full((3, 8, 10), torch.nan), "nan"),
        ("cat.jpg", "image 0"),
    ],
)
def test_what_is_no_image_is_named_with_its_shape(item: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        memory_images([item]).pixels(0, PLAIN)


def test_labels_are_names_or_numbers() -> None:
    named = memory_images(photos(3), ["b", "a", "b"])
    assert named.kind == "classes" and named.image_categories == ("b", "a", "b")
    assert memory_images(photos(2), torch.tensor([3, 1])).image_categories == ("3", "1")
    assert named.labels_fingerprint != memory_images(photos(3), ["b", "a", "a"]).labels_fingerprint
    with pytest.raises(UsageError, match="2 labels for 3 images"):
        memory_images(photos(3), ["a", "b"])
    with pytest.raises(UsageError, match="no images"):
        memory_images([])


class Sorted(Pairs):
    """Pairs of other labels."""

    def __init__(self, *labels: int) -> None:
        super().__init__(targets=False)
        self.labels = labels

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return super().__getitem__(index)[0], self.labels[index]


@pytest.mark.parametrize("as_list", [False, True])
def test_images_that_are_labelled_minus_one_are_left_out(as_list: bool) -> None:
    def labelled(*labels: int) -> MemoryImages:
        return memory_images(photos(), labels) if as_list else memory_images(Sorted(*labels))

    images = labelled(0, -1, 1, -1, 0)
    assert images.image_categories == (("0", "1", "0") if as_list else ("ant", "bee", "ant"))
    assert images.paths == ("0000.png", "0002.png", "0004.png")
    for place, index in enumerate((0, 2, 4)):
        assert np.array_equal(np.asarray(images.load(place)), photos()[index])
    assert images.notes == ("2 of 5 images are labelled -1, which is no class, and left out",)
    images = labelled(*[-1] * 5)
    assert images.image_categories is None and len(images.paths) == 5
    assert images.notes == ("5 of 5 images are labelled -1, which is no class",)


def test_numbers_below_zero_count_from_no_end() -> None:
    with pytest.raises(UsageError, match="labels run from -2 to 1"):
        memory_images(Sorted(0, -2, 1, 1, -1))
    signs = memory_images(photos(3), [-1, 1, -1])
    assert signs.image_categories == ("-1", "1", "-1") and signs.notes == ()
    assert numbered(signs.image_categories) is None


@pytest.mark.parametrize(
    ("items", "wanted", "said"),
    [
        ([(one, n, "id") for n, one in enumerate(photos(2))], ("0", "1"), ""),
        ([(one,) for one in photos(2)], None, ""),
        ([(one, np.float64(2)) for one in photos(2)], ("2", "2"), ""),
        ([(one, 0.25) for one in photos(2)], None, "no number or name per image (a float)"),
        ([(one, torch.eye(2)[0]) for one in photos(2)], None, "(a Tensor)"),
        ([(one, {"boxes": []}) for one in photos(2)], None, "(a dict)"),
    ],
)
def test_what_stands_beside_an_image_may_be_its_label(
    items: list[tuple[object, ...]], wanted: tuple[str, ...] | None, said: str
) -> None:
    images = memory_images(items)
    assert images.image_categories == wanted
    assert said in "; ".join(images.notes) and bool(images.notes) == bool(said)
    assert np.array_equal(np.asarray(images.load(1)), photos(2)[1])


def test_a_data_loader_gives_the_data_set_that_it_reads() -> None:
    found = memory_images(DataLoader(Pairs(), batch_size=2, shuffle=True))
    assert found.image_categories == ("ant", "bee", "bee", "ant", "bee")
    assert np.array_equal(np.asarray(found.load(3)), photos()[3])
    assert "its own order" in found.notes[0]


@pytest.mark.parametrize("by_batches", [False, True])
def test_of_a_data_loader_with_a_subset_sampler_its_items_are_read(by_batches: bool) -> None:
    sampler = SubsetRandomSampler([3, 0, 2])
    loader = (
        DataLoader(Pairs(), batch_sampler=BatchSampler(sampler, 2, drop_last=False))
        if by_batches
        else DataLoader(Pairs(), batch_size=2, sampler=sampler)
    )
    found = memory_images(loader)
    assert found.image_categories == ("ant", "bee", "ant")
    for place, index in enumerate((0, 2, 3)):
        assert np.array_equal(np.asarray(found.load(place)), photos()[index])
    assert found.notes[0] == (
        "3 of 5 items of the DataLoader's data set are read, those of its SubsetRandomSampler, "
        "in the data's order"
    )
    assert found.fingerprint == memory_images(Subset(Pairs(), [0, 2, 3])).fingerprint


def test_a_sampler_that_draws_other_than_all_is_said() -> None:
    sampler = DistributedSampler(Pairs(), num_replicas=2, rank=0)
    found = memory_images(DataLoader(Pairs(), sampler=sampler))
    assert len(found.paths) == 5
    assert "all 5 items, of which its DistributedSampler draws 3" in found.notes[0]
    with pytest.raises(UsageError, match="no images"):
        memory_images(DataLoader(Pairs(), sampler=SubsetRandomSampler([])))


def test_some_of_them_are_those_that_were_chosen() -> None:
    some = memory_images(photos(), list("abcde")).take([3, 1], "held-out")
    assert some.image_categories == ("d", "b")
    for place, index in enumerate((3, 1)):
        assert np.array_equal(np.asarray(some.load(place)), photos()[index])


def test_labels_are_read_without_the_items_that_fail() -> None:
    class Failing(Pairs):
        bad = (2,)

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            if index in self.bad:
                raise RuntimeError("disk")
            return super().__getitem__(index)

    images = memory_images(Failing(targets=False))
    assert images.paths == ("0000.png", "0001.png", "0003.png", "0004.png")
    assert images.image_categories == ("ant", "bee", "ant", "bee")
    assert np.array_equal(np.asarray(images.load(2)), photos()[3])
    assert images.notes == ("1 of 5 items cannot be read (0002.png: RuntimeError: disk)",)
    assert images.fingerprint != memory_images(Pairs()).fingerprint
    Failing.bad = (0, 1, 2, 3)
    with pytest.raises(CnnlensError, match=r"4 of 5 images cannot be used.*disk"):
        memory_images(Failing(targets=False))


def test_an_image_deeper_than_those_looked_at_is_not_guessed() -> None:
    class Deep(Dataset):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> Image.Image:
            kind = np.uint16 if index == 1 else np.uint8
            return Image.fromarray(np.full(SIZE, 9, kind))

    with pytest.raises(UsageError, match="image 1 is deeper than 8 bits"):
        memory_images(Deep()).load(1)


def test_what_is_taken_otherwise_has_another_fingerprint() -> None:
    four = [np.zeros((*SIZE, 4), np.uint8)]
    as_colours = memory_images(four, preprocess=PLAIN).fingerprint
    assert memory_images(four, preprocess=PLAIN.with_channels(4)).fingerprint != as_colours
    deep = [Image.fromarray(np.full(SIZE, 900, np.uint16))]
    assert memory_images(deep).fingerprint != memory_images(deep, bounds=(0, 900)).fingerprint
    inks = Image.fromarray(four[0]).tobytes()
    modes = [Image.frombytes(mode, SIZE[::-1], inks) for mode in ("RGBA", "CMYK")]
    assert len({memory_images([one]).fingerprint for one in modes}) == 2


@pytest.mark.parametrize("targets", [True, False])
def test_pairs_of_a_dataset_have_its_classes(targets: bool) -> None:
    data = Pairs(targets, times=10)
    images = memory_images(data)
    assert images.image_categories == ("ant", "bee", "bee", "ant", "bee") * 10
    # listed, they need not be read for: some are looked at, for these, their depth and channels
    assert (len(set(data.read)) <= 2 * 16) == targets
    assert np.array_equal(np.asarray(images.load(3)), photos()[3])


def test_a_dataset_is_read_item_by_item_when_it_is_needed() -> None:
    data = Pairs()
    images = memory_images(data)
    data.read.clear()
    images.load(4)
    assert data.read == [4]


def test_an_item_that_fails_is_damaged_and_named() -> None:
    class Failing(Pairs):
        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            if index == 2:
                raise OSError("no such file")
            return super().__getitem__(index)

    images = memory_images(Failing())
    with pytest.raises(DamagedImage, match="OSError: no such file"):
        images.load(2)
    (batch,) = batches(images, PLAIN, batch_size=8, workers=0)
    assert batch.indices.tolist() == [0, 1, 3, 4] and batch.skipped[0][0] == "0002.png"


def test_equal_content_has_an_equal_fingerprint_and_other_content_another() -> None:
    first = memory_images(photos()).fingerprint
    assert memory_images(photos(), name="other").fingerprint == first
    changed = photos()
    changed[4][7, 9, 2] ^= 1
    assert memory_images(changed).fingerprint != first
    assert memory_images(photos(4)).fingerprint != first
    data = Pairs()
    assert memory_images(data).fingerprint == memory_images(Pairs()).fingerprint
    data.images[4][0, 0, 0] ^= 1
    assert memory_images(data).fingerprint != memory_images(Pairs()).fingerprint


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(SIZE, done=True),
        Preprocess(SIZE, mean=(100.0, 90.0, 80.0), std=(1.0,) * 3, scale=255, bgr=True, done=True),
        Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, done=True),
    ],
)
def test_tensors_that_are_done_reach_the_network_as_they_are(preprocess: Preprocess) -> None:
    tensors = list(3 * torch.randn(4, 3, *SIZE))
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh())
    model = wrap_module(net, preprocess)
    layer = find_layers(model).resolve("conv1")
    seen: list[np.ndarray] = []
    source = ModelSource(model, memory_images(tensors), [layer], RunSettings(workers=0))
    for _ in source.sweep([lambda _, maps: seen.append(maps)]):
        pass
    with torch.no_grad():
        wanted = net(torch.stack(tensors)).numpy()
    np.testing.assert_allclose(np.concatenate(seen), wanted, atol=2e-5)


def test_tensors_that_are_done_are_shown_as_pictures() -> None:
    done = Preprocess(SIZE, done=True)
    pixels = torch.from_numpy(photos(1)[0]).permute(2, 0, 1)
    images = memory_images([done.normalize(pixels[None])[0]], preprocess=done)
    assert np.array_equal(np.asarray(images.load(0)), photos(1)[0])


def test_tensors_that_are_done_are_not_resampled() -> None:
    with pytest.raises(UsageError, match=r"\(3, 9, 9\).*\(3, 8, 10\)"):
        memory_images([torch.zeros(3, 9, 9)]).pixels(0, Preprocess(SIZE, done=True))


def test_settings_that_are_not_done_are_written_as_before() -> None:
    assert "done" not in PLAIN.as_dict()
    done = Preprocess(SIZE, done=True)
    assert Preprocess.from_dict(done.as_dict()) == done


@pytest.mark.parametrize("rare", [False, True])
def test_targets_that_are_changed_on_the_way_are_not_the_labels(rare: bool) -> None:
    class Raw(Pairs):
        """Lists what its files say; its items have other numbers, as by a `target_transform`."""

        def __init__(self) -> None:
            super().__init__(targets=False, times=20)
            self.targets = [0, 7 if rare else 0] + [0 if rare else 7] * 98

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            return super().__getitem__(index)[0], int(self.targets[index] == 7)

    images = memory_images(Raw())
    assert images.image_categories is not None
    assert images.image_categories.count("bee") == (1 if rare else 98)
    assert "`targets`" in images.notes[0] and not memory_images(Pairs()).notes


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"img": photos(1)[0], "label": 3}, "(item['img'], item['label'])"),
        ({"id": 7, "px": torch.zeros(3, 8, 8), "target": 1}, "(item['px'], item['target'])"),
        ({"jpg": Image.new("RGB", (8, 8)), "fine": "cat"}, "(item['jpg'], item['fine'])"),
        ({}, "(item['image'], item['label'])"),
    ],
)  # fmt: skip
def test_a_dict_is_taken_apart_by_the_keys_that_it_has(item: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="image 0 is a dict") as error:
        memory_images([item] * 2).load(0)
    assert f"make pairs of items, {said}; " in error.value.hint
