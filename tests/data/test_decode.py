from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import open_folder
from cnnlens.data.decode import DamagedImage, load_image, load_planes
from cnnlens.data.formats import endings

RED, WHITE = (255, 0, 0), (255, 255, 255)


def corners(height: int = 16, width: int = 24) -> np.ndarray:
    """Black, but red at the top left, green at the top right, blue at the bottom left."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:8, :8], array[:8, -8:], array[-8:, :8] = RED, (0, 255, 0), (0, 0, 255)
    return array


def at(image: Image.Image, row: int, column: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.atleast_1d(np.asarray(image)[row, column]))


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(corners()).save(path, **({"lossless": True} if ending == "webp" else {}))
    image = load_image(path)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), corners())


def test_jpeg_comes_back_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(corners()).save(path, "JPEG")
    np.testing.assert_array_equal(np.asarray(load_image(path)), np.asarray(Image.open(path)))


def test_a_png_is_read_before_any_other_format_was(tmp_path: Path) -> None:
    import subprocess
    import sys

    Image.fromarray(corners()).save(tmp_path / "a.png")
    code = "import sys; from pathlib import Path; from cnnlens.data.decode import load_image; "
    code += "print(load_image(Path(sys.argv[1])).size, 'torch' in sys.modules)"
    run = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    assert subprocess.check_output(run, text=True).split("\n")[0] == "(24, 16) False"


def test_the_format_is_seen_in_the_contents_not_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(corners()).save(path, "PNG")
    np.testing.assert_array_equal(np.asarray(load_image(path)), corners())


def test_grey_becomes_three_equal_channels_or_stays_grey(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    rgb = np.asarray(load_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png", "L")), grey)


def test_a_transparent_value_of_16_bits_lies_on_white_as_one_of_8_does(tmp_path: Path) -> None:
    """A PNG names it in a chunk of its own; its values are the same number twice, as bytes."""
    grey = np.array([[0, 10, 11], [120, 255, 10]], np.uint8)
    colours = np.stack([grey, grey[::-1], grey], axis=2)
    for array, kind, clear, count in ((grey, 0, [10], 2), (colours, 2, [10, 255, 10], 1)):
        deep = [257 * one for one in clear]
        write_png(tmp_path / "deep.png", array.astype(">u2") * 257, kind, 16, deep)
        write_png(tmp_path / "plain.png", array, kind, 8, clear)
        found, truth = (np.asarray(load_image(tmp_path / f"{n}.png")) for n in ("deep", "plain"))
        white = (array if array.ndim == 3 else array[..., None]) == 255
        assert (truth == 255).all(axis=2).sum() == count + white.all(axis=2).sum()
        np.testing.assert_array_equal(found, truth)


def write_png(path: Path, array: np.ndarray, kind: int, depth: int, clear: list[int]) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    named = struct.pack(f">{len(clear)}H", *clear)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", named)
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_bilevel_is_black_and_white(tmp_path: Path) -> None:
    bits = np.arange(64).reshape(8, 8) % 3 == 0
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png", "L")), bits * 255)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[..., 0], array[..., 3] = 255, [0, 128, 255, 255]
    Image.fromarray(array).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert at(image, 0, 0) == WHITE and at(image, 0, 2) == RED
    assert at(image, 0, 1) == (255, 127, 127)


def test_grey_with_alpha_lies_on_white(tmp_path: Path) -> None:
    array = np.zeros((2, 2, 2), np.uint8)
    array[0, :, 1] = 255
    Image.fromarray(array, "LA").save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", "L")
    assert at(image, 0, 0) == (0,) and at(image, 1, 0) == (255,)


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_looked_up_and_their_transparent_entry_is_white(
    tmp_path: Path, transparent: bool
) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([*RED, 0, 0, 255])
    image.save(tmp_path / "a.png", **({"transparency": 1} if transparent else {}))
    loaded = load_image(tmp_path / "a.png")
    assert at(loaded, 0, 0) == RED
    assert at(loaded, 0, 1) == (WHITE if transparent else (0, 0, 255))


def test_an_rgb_colour_declared_transparent_is_white(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.png", transparency=RED)
    loaded = load_image(tmp_path / "a.png")
    assert at(loaded, 0, 0) == WHITE and at(loaded, 0, -1) == (0, 255, 0)


def test_cmyk_jpeg_of_adobe_is_not_inverted(tmp_path: Path) -> None:
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    image = np.asarray(load_image(tmp_path / "a.jpg")).astype(int)
    assert np.abs(image[4, 4] - RED).max() < 20
    assert image[8:, 12:].max() < 20  # black stays black


def test_cmyk_jpeg_without_adobes_mark_is_read_as_stored(tmp_path: Path) -> None:
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    data = (tmp_path / "a.jpg").read_bytes()
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    (tmp_path / "b.jpg").write_bytes(data[:start] + data[start + 2 + length :])
    # red went in as (0, 1, 1, 0) inverted, that is (1, 0, 0, 1); taken as ink that is black
    assert np.asarray(load_image(tmp_path / "b.jpg"))[4, 4].max() < 20


def test_cmyk_tiff_is_converted(tmp_path: Path) -> None:
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.tif")), corners())


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_divided_by_257_not_clipped(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 257, 300, 32768], [40000, 65278, 65535, 128]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    expected = np.rint(values / 257)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / f"a.{ending}", "L")), expected)
    rgb = np.asarray(load_image(tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(rgb[..., 1], expected)


def test_sixteen_bit_colour_png_keeps_its_range(tmp_path: Path) -> None:
    values = np.array([[[0, 32768, 65535], [257, 40000, 512]]], ">u2")  # (1, 2, 3)
    raw = b"\0" + values.tobytes()

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    loaded = np.asarray(load_image(tmp_path / "a.png")).astype(float)
    assert np.abs(loaded - values / 257.0).max() <= 1


def test_thirty_two_bit_greys_of_sixteen_bit_range_are_divided_by_257(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 50, dtype=np.int32).reshape(-1, 3)  # more rows than one band
    values[0, 0] = -5
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = np.rint(np.clip(values, 0, None) / 257)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.tif", "L")), expected)


@pytest.mark.parametrize(("top", "full"), [(1.0, 1.0), (200.0, 255.0), (40000.0, 65535.0)])
def test_float_tiffs_are_scaled_by_their_range(tmp_path: Path, top: float, full: float) -> None:
    values = np.linspace(0, top, 12, dtype=np.float32).reshape(3, 4)
    expected = np.rint(values.astype(float) * 255 / full)
    values[0, 1:4], expected[0, 1:4] = (np.nan, np.inf, -np.inf), (0, 255, 0)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.tif", "L")), expected)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int) -> None:
    upright = corners(32, 48)
    # what a camera held that way would have stored: the inverse turn, by array operations
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif.tobytes(), quality=100)
    loaded = load_image(path)
    assert loaded.size == (48, 32)
    for row, column in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        assert np.abs(np.asarray(loaded)[row, column].astype(int) - upright[row, column]).max() < 60


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_no_harm(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), corners())


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "gif"])
def test_of_several_frames_the_first_counts(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in (RED, (0, 0, 255))]
    path = tmp_path / f"a.{ending}"
    lossless = {"lossless": True} if ending == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    loaded = load_image(path)
    assert loaded.size == (8, 6) and at(loaded, 3, 3) == RED


def test_pixels_outlive_the_file(tmp_path: Path) -> None:
    for ending in ("bmp", "tif", "png"):
        path = tmp_path / f"a.{ending}"
        Image.fromarray(corners()).save(path)
        image = load_image(path)
        path.unlink()
        np.testing.assert_array_equal(np.asarray(image.resize((24, 16))), corners())


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_damaged(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    for share in (0.1, 0.6):
        (tmp_path / "a.img").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DamagedImage) as caught:
            load_image(tmp_path / "a.img")
        assert caught.value.path == tmp_path / "a.img" and caught.value.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"not an image at all" * 9, "not an image"), (os.urandom(999), "")],
)
def test_what_is_no_image_is_damaged(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DamagedImage) as caught:
        load_image(tmp_path / "a.jpg")
    assert reason in caught.value.reason


def test_a_decompression_bomb_is_damaged(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9999)))
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(DamagedImage, match="too large"):
        load_image(tmp_path / "a.png")


def test_missing_files_folders_and_pipes_are_damaged_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("gone.jpg", "pipe.jpg", "folder.jpg", "loop.jpg"):
        with pytest.raises(DamagedImage):
            load_image(tmp_path / name)


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DamagedImage, match="not an image"):
        load_image(tmp_path / "a.jpg")


def test_an_unknown_mode_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CMYK"):
        load_image(tmp_path / "a.jpg", "CMYK")


def deep_png(path: Path, pixels: np.ndarray, orientation: int, behind: bool) -> None:
    """Write 16-bit colours, with an orientation tag ahead of the pixels or behind them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    tag = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = chunk(b"IDAT", zlib.compress(rows))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    order = (data, tag) if behind else (tag, data)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(order) + chunk(b"IEND", b""))


@pytest.mark.parametrize("behind", [False, True])
def test_colours_of_sixteen_bits_are_turned_too(tmp_path: Path, behind: bool) -> None:
    pixels = np.arange(4 * 6 * 3).reshape(4, 6, 3) * 800
    deep_png(tmp_path / "a.png", pixels, 6, behind)
    upright = np.rot90(pixels, -1)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), np.round(upright / 257))
    planes = load_planes(tmp_path / "a.png", 3)
    assert planes is None or np.allclose(planes, upright.transpose(2, 0, 1) / 65535)
    stored = load_image(tmp_path / "a.png", is_turned=lambda *_: False)
    assert stored.size == (6, 4)


def test_bands_that_are_compressed_are_read_or_say_what_they_need(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    bands = np.arange(13 * 16 * 24, dtype=np.uint16).reshape(13, 16, 24)
    for how in ("zlib", "lzw"):
        # Pillow writes LZW; tifffile without imagecodecs cannot
        path = tmp_path / f"{how}.tif"
        if how == "lzw":
            pages = [Image.fromarray(band) for band in bands]
            pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
        else:
            tifffile.imwrite(path, bands, compression=how, photometric="minisblack")
        try:
            planes = load_planes(path, 13)
        except DamagedImage as error:
            assert how == "lzw" and "compressed as LZW: needs imagecodecs (pip" in error.reason
        else:
            assert np.allclose(planes, bands / 65535)


def test_photos_of_phones_are_read_or_say_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    notes = open_folder(tmp_path).notes
    said = any("1 .heic: a.heic); HEIC is read with pip install pillow-heif" in n for n in notes)
    assert said != (".heic" in endings())
