"""What the members of a zip are called: a flag that says UTF-8 is often left out."""

from __future__ import annotations

import struct
import zipfile
import zlib

_IS_UTF8 = 0x800  # the flag
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field: version, checksum of the other name, name
_OLD = "cp437"  # what a name without the flag is by the standard


def member_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, as who packed it meant it; folders end in ``/``.

    Without the flag it is what Info-ZIP's extra field says, else UTF-8 where its bytes can be
    read so (of other letters than ASCII's, hardly any other name can), else code page 437.
    """
    # orig_filename: zipfile has tidied the other, which would hide what was meant
    if info.flag_bits & _IS_UTF8:
        return info.orig_filename
    raw = info.orig_filename.encode(_OLD)
    try:
        return (_beside(info.extra, raw) or raw).decode()
    except UnicodeDecodeError:
        return info.orig_filename


def _beside(extra: bytes, raw: bytes) -> bytes | None:
    """The name in an extra field, where it was made for this one: else it was renamed since."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return field[5:] or None
    return None
