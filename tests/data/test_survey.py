from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnnlens.data.bands import eight_bits, full_range
from cnnlens.data.batches import batches
from cnnlens.data.check import check
from cnnlens.data.decode import DamagedImage, load_image, load_planes
from cnnlens.data.labelled import read_labelled
from cnnlens.data.open import open_data
from cnnlens.model.preprocess import Preprocess

GREY = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
GREY[0, :2] = 0, 255
COLOURS = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
BANDS = np.random.default_rng(2).integers(0, 4000, (12, 16, 13)).astype(np.uint16)
BANDS[0, 0, 0] = 4095


def seen(root: Path, name: str, mode: str = "L") -> np.ndarray:
    images = open_data(root)
    return np.asarray(images.load(images.paths.index(name), mode)).astype(int)


# ---- the range of values


@pytest.mark.parametrize(
    ("low", "high", "is_float", "bounds"),
    [
        (0, 4080, False, (0, 4095)),
        (0, 4096, False, (0, 8191)),
        (7, 200, False, (0, 255)),
        (0, 65535, False, (0, 65535)),
        (0, 70000, False, (0, 70000)),
        (-1024, 3071, False, (-1024, 3071)),
        (0.0, 0.3, True, (0, 1)),
        (0.0, 300.0, True, (0, 511)),
        (-2.5, 2.5, True, (-2.5, 2.5)),
    ],
)
def test_bounds_hold_the_bits_that_the_values_need(
    low: float, high: float, is_float: bool, bounds: tuple[float, float]
) -> None:
    assert full_range(low, high, is_float) == bounds


@pytest.mark.parametrize("bits", range(9, 17))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_greys_are_the_picture_that_they_are_in_eight_bits(
    tmp_path: Path, bits: int, ending: str
) -> None:
    shift = bits - 8
    full = (GREY.astype(np.uint16) << shift) | (GREY >> (8 - shift))
    Image.fromarray(full.astype(np.uint16)).save(tmp_path / f"deep.{ending}")
    np.testing.assert_array_equal(seen(tmp_path, f"deep.{ending}"), GREY)


def test_twelve_bits_without_their_low_ones_are_the_same_picture(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    Image.fromarray(GREY).save(tmp_path / "eight.png")
    np.testing.assert_array_equal(seen(tmp_path, "twelve.png"), seen(tmp_path, "eight.png"))
    assert np.asarray(load_image(tmp_path / "twelve.png", "L")).max() < 20  # one file says nothing
    (note,) = open_data(tmp_path).notes
    assert "values 0 to 4095 in uint16;" in note and "--range" in note
    assert check(tmp_path).notes == (note,)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_hounsfield_units_run_from_their_lowest_to_their_highest(
    tmp_path: Path, dtype: str
) -> None:
    values = (GREY.astype(np.int32) * 16 - 1024).astype(dtype)
    tifffile.imwrite(tmp_path / "ct.tif", values)
    np.testing.assert_array_equal(seen(tmp_path, "ct.tif"), GREY)


def test_marks_of_missing_values_do_not_count(tmp_path: Path) -> None:
    values = GREY.astype(np.float32) - 128
    values[3, 3], values[4, 4] = -9999, np.nan
    nodata = (42113, "s", 0, "-9999", True)
    tifffile.imwrite(tmp_path / "map.tif", values, extratags=[nodata])
    shown = seen(tmp_path, "map.tif")
    rest = np.ones(GREY.shape, bool)
    rest[3, 3] = rest[4, 4] = False
    np.testing.assert_array_equal(shown[rest], GREY[rest])
    assert shown[3, 3] == shown[4, 4] == 0


def test_files_that_lack_values_are_named(tmp_path: Path) -> None:
    for name, value in (("a", np.nan), ("b", np.inf), ("c", 0)):
        values = GREY.astype(np.float32)
        values[3, 3] = value
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
    tifffile.imwrite(tmp_path / "d.tif", np.full((4, 4), np.nan, np.float32))
    images = open_data(tmp_path)
    assert (
        images.notes[1] == "values that are missing or no numbers are black (a.tif, b.tif, d.tif)"
    )
    assert np.asarray(images.load(3)).max() == 0


def test_a_deep_file_by_another_name_is_deep(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "film.jpg", "PNG")
    np.testing.assert_array_equal(seen(tmp_path, "film.jpg"), GREY)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_colours_are_read_as_deep(tmp_path: Path, ending: str) -> None:
    deep = COLOURS.astype(np.uint16) * 16
    if ending == "tif":
        tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    else:
        (tmp_path / "deep.png").write_bytes(png(deep))
    np.testing.assert_array_equal(seen(tmp_path, f"deep.{ending}", "RGB"), COLOURS)


def png(deep: np.ndarray) -> bytes:
    """A PNG of 16 bits per colour, which Pillow does not write."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, bands = deep.shape
    kind = {2: 4, 3: 2, 4: 6}[bands]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + data


@pytest.mark.parametrize("file", ["a.png", "a.tif"])
@pytest.mark.parametrize("bands", [1, 3])
def test_how_opaque_pixels_are_says_nothing_of_the_range_of_colours(
    tmp_path: Path, file: str, bands: int
) -> None:
    deep = COLOURS[:, :, :bands].astype(np.uint16) * 16  # twelve bits, and sixteen of alpha
    deep[0, 0, 0] = 4095
    opaque = np.full((12, 16, 1), 65535, np.uint16)
    opaque[:, 3] = 0
    whole = np.concatenate([deep, opaque], axis=2)
    if file == "a.png":
        (tmp_path / file).write_bytes(png(whole))
    else:
        photometric = "rgb" if bands == 3 else "minisblack"
        tifffile.imwrite(
            tmp_path / file, whole, photometric=photometric, planarconfig="contig",
            extrasamples=["unassalpha"],
        )  # fmt: skip
    (tmp_path / "plain.jpg").write_bytes((tmp_path / file).read_bytes())  # measured, too
    expected = (deep >> 4).astype(np.uint8)
    expected[:, 3] = 255  # nothing there: white
    found = seen(tmp_path, file, "RGB" if bands == 3 else "L")
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    (note,) = open_data(tmp_path).notes
    assert note.startswith(f"black to white are the values 0 to 4095 in uint16×{bands + 1};")


def test_alpha_as_a_network_s_channel_keeps_its_range(tmp_path: Path) -> None:
    deep = np.concatenate([COLOURS, COLOURS[:, :, :1]], axis=2).astype(np.uint16) * 16
    deep[0, 0] = 4095, 4095, 4095, 65535
    (tmp_path / "a.png").write_bytes(png(deep))
    four = Preprocess((12, 16), (0.0,) * 4, (1.0,) * 4)
    found = open_data(tmp_path).pixels(0, four)
    np.testing.assert_allclose(found, deep.transpose(2, 0, 1) / np.float32(65535), atol=1e-6)


def test_deep_jpeg_2000_has_the_range_of_its_values(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "a.jp2", irreversible=False)
    assert Image.open(tmp_path / "a.jp2").mode.startswith("I;16")
    np.testing.assert_array_equal(seen(tmp_path, "a.jp2"), GREY)
    named = open_data(tmp_path, bounds=(0, 2040))
    expected = np.clip(np.rint(GREY.astype(float) * 2), 0, 255)
    np.testing.assert_array_equal(np.asarray(named.load(0, "L")), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_negatives_are_shown_as_those_of_eight_bits(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo={262: 0})
    deep = GREY.astype(dtype) * (257 if dtype is np.uint16 else 1 / dtype(255))
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="miniswhite")
    shallow, found = seen(tmp_path, "a.tif"), seen(tmp_path, "b.tif")
    np.testing.assert_array_equal(found, 255 - GREY.astype(int))
    np.testing.assert_array_equal(shallow, GREY)  # Pillow has written the negative of what it got


def test_deep_negatives_of_many_pages_are_turned_too(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", BANDS.transpose(2, 0, 1), photometric="miniswhite")
    planes = load_planes(tmp_path / "a.tif", 13, open_data(tmp_path).ranges)
    assert planes is not None
    np.testing.assert_allclose(planes, 1 - BANDS.transpose(2, 0, 1) / np.float32(4095), atol=1e-6)


def test_floats_of_sixteen_bits_are_read_without_a_warning(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (GREY / 255).astype(np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = seen(tmp_path, "a.tif")
    assert np.abs(found - GREY).max() <= 1


def test_pillow_logs_nothing_of_files_of_many_bands(tmp_path: Path) -> None:
    LAYOUTS["contiguous"](tmp_path / "a.tif")
    code = f"from cnnlens.data.open import open_data; print(open_data({str(tmp_path)!r}).notes)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "13 bands" in run.stdout and run.stderr == ""


def test_greys_and_colours_among_bands_are_said_to_be_repeated(tmp_path: Path) -> None:
    LAYOUTS["contiguous"](tmp_path / "a.tif")
    Image.fromarray(COLOURS).save(tmp_path / "b.png")
    words = "1 file of greys or colours alone, repeated for a network of more channels"
    assert words in open_data(tmp_path).notes


def test_all_files_of_a_type_share_one_range(tmp_path: Path) -> None:
    dark = (GREY // 16).astype(np.uint16)  # of itself it would have four bits
    Image.fromarray(dark).save(tmp_path / "dark.png")
    assert seen(tmp_path, "dark.png").max() == 15
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "bright.png")
    assert seen(tmp_path, "dark.png").max() == 0
    np.testing.assert_array_equal(seen(tmp_path, "bright.png"), GREY)


def test_a_range_that_is_named_holds_and_makes_another_data_set(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "a.png")
    own, named = open_data(tmp_path), open_data(tmp_path, bounds=(0, 2040))
    expected = np.clip(np.rint(GREY.astype(float) * 2), 0, 255)
    np.testing.assert_array_equal(np.asarray(named.load(0, "L")), expected)
    assert own.fingerprint != named.fingerprint and named.name == f"{own.name}-0-2040"
    assert named.ranges.as_dict() == {"all": [0, 2040]}
    assert own.ranges.as_dict() == {"uint16": [0, 4095]}


def test_a_range_is_no_matter_where_nothing_is_deep(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    Image.fromarray(COLOURS).save(tmp_path / "b.tif")
    plain, named = open_data(tmp_path), open_data(tmp_path, bounds=(0, 99))
    assert plain.notes == () and plain.fingerprint == named.fingerprint
    assert named.notes == ("no file deeper than 8 bits was found: --range changes nothing",)


def test_floats_of_the_usual_range_stay_in_it() -> None:
    values = np.array([[0.0, 0.25, 1.0]], np.float32)
    np.testing.assert_array_equal(eight_bits(values, (0.0, 1.0)), [[0, 64, 255]])


# ---- bands

THIRTEEN = Preprocess((12, 16), (0.0,) * 13, (1.0,) * 13)
THREE = Preprocess((12, 16), (0.0,) * 3, (1.0,) * 3)
LAYOUTS = {
    "contiguous": lambda path: tifffile.imwrite(
        path, BANDS, photometric="minisblack", planarconfig="contig"
    ),
    "planar": lambda path: tifffile.imwrite(
        path, BANDS.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"
    ),
    "pages": lambda path: tifffile.imwrite(path, BANDS.transpose(2, 0, 1), metadata=None),
    "array": lambda path: tifffile.imwrite(path, np.moveaxis(BANDS, 2, 0)),
    "imagej": lambda path: tifffile.imwrite(path, BANDS.transpose(2, 0, 1), imagej=True),
    "zipped": lambda path: tifffile.imwrite(
        path, BANDS, photometric="minisblack", planarconfig="contig", compression="zlib"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bands_reach_the_network_as_they_are(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path / "a.tif")
    images = open_data(tmp_path)
    (batch,) = batches(images, THIRTEEN, batch_size=4, workers=0)
    expected = BANDS.transpose(2, 0, 1)[None].astype(np.float32) / 4095
    np.testing.assert_allclose(batch.pixels.numpy(), expected, atol=1e-6)
    assert images.shape(THIRTEEN) == (13, 12, 16)
    assert images.notes[0].startswith(("files of 13 bands", "files of 13 pages: bands for"))


def test_three_grey_pages_are_colours_and_of_other_stacks_the_first_counts(tmp_path: Path) -> None:
    pages = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", COLOURS.transpose(2, 0, 1), **pages)
    images = open_data(tmp_path)
    np.testing.assert_array_equal(images.pixels(0, THREE), COLOURS.transpose(2, 0, 1))
    assert images.notes == ("files of 3 pages, read as red, green and blue",)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY // 2, GREY, GREY]), **pages)
    images = open_data(tmp_path)
    np.testing.assert_array_equal(images.pixels(0, THREE), np.stack([GREY] * 3))
    assert "4 pages" in images.notes[0] and "else the first counts" in images.notes[0]


def test_an_array_with_its_bands_last_is_no_stack_of_pages(tmp_path: Path) -> None:
    square = np.random.default_rng(3).integers(0, 4096, (20, 20, 13)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", square)  # 20 pages of 20×13, says the file
    images = open_data(tmp_path, bounds=(0, 4095))
    found = images.pixels(0, replace(THIRTEEN, size=(20, 20)))
    np.testing.assert_allclose(found, square.transpose(2, 0, 1) / np.float32(4095), atol=1e-6)
    assert images.load(0).size == (20, 20)


def test_bands_are_no_frames(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bands.tif", BANDS)  # a page per row
    pages = np.stack([COLOURS, 255 - COLOURS])
    tifffile.imwrite(tmp_path / "film.tif", pages, photometric="rgb")
    assert open_data(tmp_path).notes[-1] == "of several frames the first counts (film.tif)"
    np.testing.assert_array_equal(seen(tmp_path, "film.tif", "RGB"), COLOURS)


def test_bands_are_resampled_one_by_one(tmp_path: Path) -> None:
    LAYOUTS["contiguous"](tmp_path / "a.tif")
    small = open_data(tmp_path).pixels(0, replace(THIRTEEN, size=(6, 8)))
    band = Image.fromarray(BANDS[:, :, 4].astype(np.float32) / 4095)
    expected = np.asarray(band.resize((8, 6), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(small[4], expected, atol=1e-6)


def test_another_number_of_bands_is_named(tmp_path: Path) -> None:
    LAYOUTS["contiguous"](tmp_path / "a.tif")
    with pytest.raises(DamagedImage, match="13 bands, and the network takes 3 channels"):
        open_data(tmp_path).pixels(0, THREE)
    with pytest.raises(DamagedImage, match="13 bands, and the network takes 6 channels"):
        load_planes(tmp_path / "a.tif", 6)


def test_colours_among_bands_are_repeated_in_the_same_units(tmp_path: Path) -> None:
    LAYOUTS["contiguous"](tmp_path / "a.tif")
    Image.fromarray(COLOURS).save(tmp_path / "b.png")
    (batch,) = batches(open_data(tmp_path), THIRTEEN, batch_size=4, workers=0)
    expected = np.concatenate([COLOURS.transpose(2, 0, 1)] * 5)[:13] / np.float32(255)
    np.testing.assert_allclose(batch.pixels[1].numpy(), expected, atol=1e-6)


def test_bands_are_trained_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            LAYOUTS["planar"](tmp_path / name / f"{number}.tif")
    found = read_labelled(open_data(tmp_path), THIRTEEN)
    assert found.pixels.shape == (8, 13, 12, 16)
    np.testing.assert_allclose(
        found.pixels[3, 5].numpy(), BANDS[:, :, 5] / np.float32(4095), atol=1e-6
    )


def test_four_bands_with_alpha_are_a_picture_and_feed_four_channels(tmp_path: Path) -> None:
    rgba = np.concatenate([COLOURS, np.full((12, 16, 1), 255, np.uint8)], axis=2)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    images = open_data(tmp_path)
    assert images.notes == ()
    np.testing.assert_array_equal(images.pixels(0, THREE), COLOURS.transpose(2, 0, 1))
    four = images.pixels(0, Preprocess((12, 16), (0.0,) * 4, (1.0,) * 4))
    np.testing.assert_allclose(four, rgba.transpose(2, 0, 1) / np.float32(255), atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_as_pictures_are(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", exif=exif.tobytes())
    tifffile.imwrite(
        tmp_path / "b.tif", COLOURS.astype(np.uint16) * 257, photometric="rgb",
        extratags=[(274, "H", 1, orientation, True)],
    )  # fmt: skip
    shallow, deep = (np.asarray(load_image(tmp_path / name)) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(deep, shallow)
