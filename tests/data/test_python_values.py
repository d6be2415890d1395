"""What Python gives in memory reaches the network as the same samples in files do: by every method,
through `cnnlens.Investigation`."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

import cnnlens
from cnnlens.data.given import GivenImage
from cnnlens.data.memory import opened_images
from cnnlens.data.open import open_data
from cnnlens.data.python_values import PythonValues
from cnnlens.errors import CnnlensError, UsageError

SIDE = 16


class Fed:
    """A network over some channels, and every input that it was fed."""

    def __init__(self, channels: int, done: bool = False, quiet: bool = True) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(3, 2),
        )  # fmt: skip
        self.inputs: list[torch.Tensor] = []
        net.register_forward_pre_hook(lambda _, x: self.inputs.append(x[0].detach().clone()))
        mean, std = (
            [0.1 + 0.02 * c for c in range(channels)],
            [0.25 + 0.01 * c for c in range(channels)],
        )
        self.preprocess = cnnlens.Preprocess((SIDE, SIDE), mean, std, done=done)
        self.lens = cnnlens.Investigation(
            net, preprocess=self.preprocess, classes=["a", "b"], quiet=quiet, workers=0
        )

    def normal(self, pixels: torch.Tensor) -> torch.Tensor:
        """What is fed of pixels (N, C, H, W) in [0, 1], by the definition."""
        mean, std = (
            torch.tensor(v)[:, None, None] for v in (self.preprocess.mean, self.preprocess.std)
        )
        return (pixels - mean) / std

    def of(self, data: object, **more: object) -> torch.Tensor:
        """What is fed of data, (N, C, H, W)."""
        self.inputs.clear()
        count = len(self.lens.extract(data=data, layer="conv1", **more))
        assert count > 1  # a network is asked for its sizes with one image
        return next(x for x in reversed(self.inputs) if len(x) == count)

    def of_image(self, image: object) -> torch.Tensor:
        """What is fed of one image, (C, H, W)."""
        self.inputs.clear()
        self.lens.cam(image=image, method="gradcam", layer="conv1")
        return self.inputs[-1][0]

    def was_fed(self, row: torch.Tensor) -> bool:
        rows = [r for x in self.inputs for r in x if r.shape == row.shape]
        return any(torch.allclose(r, row, atol=2e-5) for r in rows)


def pixels(channels: int, count: int = 3) -> torch.Tensor:
    draw = np.random.default_rng(channels)
    return torch.from_numpy(draw.integers(0, 256, (count, channels, SIDE, SIDE), np.uint8))


FORMS = {
    "uint8 tensor": list,
    "array": lambda x: [one.permute(1, 2, 0).numpy() for one in x],
    "float": lambda x: list(x / 255),
    "double": lambda x: list((x / 255).double()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_images_of_the_networks_channels_are_fed_as_they_are(channels: int, form: str) -> None:
    fed, x = Fed(channels), pixels(channels)
    given, wanted = FORMS[form](x), fed.normal(x / 255)
    torch.testing.assert_close(fed.of(given), wanted)
    torch.testing.assert_close(fed.of_image(given[1]), wanted[1])


@pytest.mark.parametrize("channels", [4, 13])
def test_images_of_many_channels_are_those_of_a_tiff(channels: int, tmp_path: Path) -> None:
    """Of another size, too, which is resampled."""
    draw = np.random.default_rng(0)
    for number in range(3):
        array = draw.integers(0, 256, (20, 24, channels), np.uint8)
        tifffile.imwrite(
            tmp_path / f"{number}.tif", array, photometric="minisblack", planarconfig="contig"
        )
    arrays = [tifffile.imread(path) for path in sorted(tmp_path.glob("*.tif"))]
    fed = Fed(channels)
    wanted = fed.of(tmp_path)
    torch.testing.assert_close(fed.of(arrays), wanted)
    torch.testing.assert_close(fed.of_image(arrays[2]), wanted[2])


@pytest.mark.parametrize("channels", [3, 4])
def test_every_method_is_fed_them(channels: int) -> None:
    fed, x = Fed(channels), torch.rand(8, channels, SIDE, SIDE)
    lens, data, wanted = fed.lens, list(x), fed.normal(x)
    calls = {
        "units": lambda: lens.units(data=data, layer="conv1", top=1, bins=2, per_bin=1),
        "deconv": lambda: lens.deconv(data=data, filter="conv1:0", top=8),
        "given": lambda: lens.deconv(image=data, filter="conv1:0"),
        "invert": lambda: lens.invert(image=data[0], layer="conv1", steps=2),
        "fool": lambda: lens.fool(image=data[0], steps=2),
        "style": lambda: lens.style(content=data[0], style=data[1], steps=1),
    }
    for name, call in calls.items():
        fed.inputs.clear()
        call()
        assert fed.was_fed(wanted[0]), name


def test_four_channels_are_colours_with_alpha_to_a_network_of_colours() -> None:
    fed = Fed(3)
    clear = torch.zeros(4, SIDE, SIDE)
    assert torch.equal(fed.of([clear] * 2), fed.normal(torch.ones(2, 3, SIDE, SIDE)))


@pytest.mark.parametrize("done", ["units", "deconv", "cam", "invert", "fool", "cluster"])
def test_what_is_normalised_already_is_fed_as_it_is(done: str) -> None:
    fed = Fed(3, done=True)
    x = 3 * torch.randn(6, 3, SIDE, SIDE)
    lens, data = fed.lens, list(x)
    calls = {
        "units": lambda: lens.units(data=data, layer="conv1"),
        "deconv": lambda: lens.deconv(data=data, filter="conv1:0"),
        "cam": lambda: lens.cam(image=data[0], method="gradcam", layer="conv1"),
        "invert": lambda: lens.invert(image=data[0], layer="conv1", steps=2),
        "fool": lambda: lens.fool(image=data[0], steps=2),
        "cluster": lambda: lens.cluster(
            data=data, labels=[0, 1] * 3, layer="conv1", only="categories"
        ),
    }
    calls[done]()
    assert fed.was_fed(x[0])


def test_what_is_normalised_already_is_shown_as_the_photo() -> None:
    fed, x = Fed(3, done=True), pixels(3)
    normal = list(fed.normal(x / 255))
    images = opened_images(normal, preprocess=fed.preprocess)
    for index in range(3):
        assert np.array_equal(np.asarray(images.load(index)), x[index].permute(1, 2, 0).numpy())


def photo() -> Image.Image:
    ramp = np.linspace(0, 255, SIDE, dtype=np.uint8)
    return Image.fromarray(np.stack([*np.meshgrid(ramp, ramp), pixels(1)[0, 0].numpy()], axis=2))


MODES = [
    ("P", "png"), ("CMYK", "tif"), ("YCbCr", "tif"), ("LA", "png"), ("1", "png"), ("L", "png"),
    ("RGBA", "png"), ("RGBA", "webp"),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("mode", "ending"), MODES)
def test_a_pil_image_of_any_mode_is_what_its_file_is(
    mode: str, ending: str, channels: int, tmp_path: Path
) -> None:
    image = photo().convert(mode)
    if mode == "RGBA":
        image.putalpha(photo().convert("L"))
    file = tmp_path / f"photo.{ending}"
    image.save(file, lossless=True)
    preprocess = cnnlens.Preprocess((SIDE, SIDE), [0.0] * channels, [1.0] * channels)

    def fed(pixels: np.ndarray) -> torch.Tensor:
        return preprocess.normalize(torch.from_numpy(pixels.copy())[None])

    wanted = fed(open_data(tmp_path).pixels(0, preprocess))
    values = PythonValues(tmp_path / "given", fed=lambda: preprocess)
    for one in (Image.open(file), *([image] if ending != "webp" else [])):
        assert torch.equal(
            fed(opened_images([one], preprocess=preprocess).pixels(0, preprocess)), wanted
        )
        given = GivenImage(values.file(one, 0), "0")
        assert torch.equal(fed(given.pixels(preprocess)), wanted)


def test_inks_are_colours_to_every_call(tmp_path: Path) -> None:
    image = photo().convert("CMYK")
    image.save(tmp_path / "0.tif")
    fed = Fed(3)
    wanted = fed.of_image(tmp_path / "0.tif")
    torch.testing.assert_close(fed.of_image(image), wanted)
    torch.testing.assert_close(fed.of([image] * 2)[0], wanted)


def test_palettes_are_part_of_what_an_image_is() -> None:
    fed = Fed(3)
    first = photo().convert("P")
    other = first.copy()
    other.putpalette(bytes(reversed(first.getpalette() or [])))
    assert not torch.equal(fed.of([first] * 2), fed.of([other] * 2))


def test_a_photo_with_an_orientation_is_turned_once(tmp_path: Path) -> None:
    wide = photo().resize((SIDE + 8, SIDE))
    tag = Image.Exif()
    tag[0x0112] = 6
    for name in ("turned.png", "twice.png"):
        wide.save(tmp_path / name, exif=tag)
    fed = Fed(3)
    wanted = fed.of(tmp_path)[0]
    assert not torch.equal(wanted, fed.of([wide] * 2)[0])
    image = Image.open(tmp_path / "turned.png")
    torch.testing.assert_close(fed.of([image] * 2)[0], wanted)
    torch.testing.assert_close(fed.of_image(image), wanted)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_deep_pil_images_are_what_their_files_are(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.integers(0, high, (20, 20)).astype(kind) for high in (4096, 2000, 300)]
    arrays[0][0, 0] = 4095
    images = [Image.fromarray(array) for array in arrays]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.tif")
    fed = Fed(1, quiet=False)
    wanted = fed.of(tmp_path)
    assert wanted.max() > 3
    capsys.readouterr()
    torch.testing.assert_close(fed.of(images), wanted)
    assert f"0 to 4095 in {kind}" in capsys.readouterr().err
    torch.testing.assert_close(fed.of_image(images[1]), fed.of_image(tmp_path / "1.tif"))
    torch.testing.assert_close(fed.of(images, range="100,3000"), fed.of(tmp_path, range="100,3000"))


def test_colours_that_pillow_cuts_to_8_bits_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "film.png"
    twelve = torch.full((3, SIDE, SIDE), 4000, dtype=torch.uint16)
    file.write_bytes(png_of_16_bits(twelve))
    fed = Fed(3)
    for call in (lambda: fed.of([Image.open(file)] * 2), lambda: fed.of_image(Image.open(file))):
        with pytest.raises(UsageError, match="16 bits") as error:
            call()
        assert str(file) in error.value.hint
    fed.of_image(Image.open(file).convert("RGB").copy())


def png_of_16_bits(colours: torch.Tensor) -> bytes:
    """Write colours (3, H, W) uint16 as PNG, by its specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    _, height, width = colours.shape
    rows = colours.permute(1, 2, 0).numpy().astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_data_set_that_was_made_in_memory_is_taken() -> None:
    fed, x = Fed(3, done=True), torch.randn(2, 3, SIDE, SIDE)
    torch.testing.assert_close(fed.of(cnnlens.memory_images(list(x))), x)
    fed.lens.units(data=cnnlens.memory_images(list(x)), layer="conv1")
    with pytest.raises(UsageError, match="labels="):
        fed.of(cnnlens.memory_images(list(x)), labels=[0, 1])


def test_floats_of_another_range_are_brought_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    fed, x = Fed(3, quiet=False), pixels(3)
    torch.testing.assert_close(fed.of(list(x.float()), range="0,255"), fed.normal(x / 255))
    fed.of(list(x), range="0,100")
    assert "no image has values that a range says something of" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [3, 4])
def test_an_image_to_start_from_may_be_in_memory(channels: int) -> None:
    fed, x = Fed(channels), torch.rand(channels, SIDE, SIDE)
    fed.lens.visualize(filter="conv1:0", steps=1, init=x)
    assert list((fed.lens.workspace.path / "given").iterdir())
    wanted = fed.normal(x)
    rows = [row for some in fed.inputs for row in some]
    assert any(torch.allclose(row, wanted, atol=0.02) for row in rows)  # it is seen in 8 bits


def test_planes_that_were_cut_short_are_a_damaged_image() -> None:
    fed = Fed(3)
    fed.of_image(torch.rand(3, SIDE, SIDE))
    (file,) = (fed.lens.workspace.path / "given").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CnnlensError, match="cannot be read: damaged"):
        fed.of_image(file)


X = pixels(3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": (one for one in X)}, "data is a generator"),
        ({"data": {"a": X[0]}}, "data is a dict"),
        ({"data": []}, "no images"),
        ({"data": X[0].permute(1, 2, 0).numpy()}, "one image, not several"),
        ({"data": [X[0], None]}, "image 1 is None"),
        ({"data": [X[0], "a.png"]}, "image 1 is a path, 'a.png'"),
        ({"data": [{"image": X[0]}]}, "image 0 is a dict"),
        ({"data": [X[0].numpy()]}, r"uint8 \(3, 16, 16\): 16 channels"),
        ({"data": [X[0].long()]}, "a tensor of int64"),
        ({"data": [X[0] > 9]}, "a tensor of bool"),
        ({"data": [np.zeros((4, 4, 3), object)]}, "image 0 is object"),
        ({"data": [torch.randn(3, SIDE, SIDE)]}, "floats are expected in"),
        ({"data": list(X), "labels": [1, 2]}, "2 labels for 3 images"),
        ({"data": list(X), "labels": torch.eye(3)}, r"labels are \(3, 3\)"),
        ({"data": list(X), "labels": [1, None, 2]}, "label 1 is None"),
        ({"data": "photos", "labels": [1]}, "goes with images in memory"),
    ],
)
def test_what_is_no_data_is_said_in_a_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        Fed(3).lens.units(layer="conv1", **given)
    assert error.value.hint and "\n" not in error.value.message


@pytest.mark.parametrize("image", [None, [None], X[0].numpy(), torch.randn(3, 4, 4)])
def test_what_is_no_image_is_said_in_a_line(image: object) -> None:
    with pytest.raises(UsageError):
        Fed(3).lens.cam(image=image)
