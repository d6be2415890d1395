"""Which files are images that are read here."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

# a closed list: some of Pillow's other readers start programs or read other files
_ALWAYS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "DIB": (),
}
_WHERE_BUILT = {  # what Pillow has only where it was built, or extended, with it
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
    "JPEG2000": (".jp2", ".j2k"),
}
# first bytes of files that are images whatever they are called
_BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  "),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIF", b"heix": "HEIF", b"mif1": "HEIF"}


@cache
def readable_formats() -> dict[str, tuple[str, ...]]:
    """Name the formats that are read here, with their files' endings.

    HEIC is among them where ``pillow-heif`` is installed.
    """
    from PIL import Image, features  # here: what a command's help loads is light

    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    built = {
        "AVIF": features.check("avif"),
        "JPEG2000": features.check("jpg_2000"),
        "HEIF": "HEIF" in Image.OPEN,
    }
    return _ALWAYS | {name: _WHERE_BUILT[name] for name, there in built.items() if there}


@cache
def endings() -> frozenset[str]:
    """Endings of files that are taken for images, in lower case."""
    return frozenset(ending for names in readable_formats().values() for ending in names)


def looks_like_image(path: Path) -> bool:
    """Whether a file begins as images do that are read here, whatever it is called."""
    try:
        if not path.is_file():  # opening a pipe would wait forever
            return False
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    if start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return True
    return start[4:8] == b"ftyp" and _BRANDS.get(start[8:12]) in readable_formats()
