"""The files that a network was opened from, and whether they are what they were then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cnnlens.files import Mark, marked
from cnnlens.model.files_read import files_read

Marks = Mapping[Path, Mark]


@contextmanager
def opened_from(spec: str) -> Iterator[Marks]:
    """Collect what a MODEL is opened from meanwhile: the file or folder that it names, and whatever
    code opens for it.
    """
    # taken before it is read: what is written meanwhile is another one then
    marks = {file: mark for file in _named(str(spec)) if (mark := marked(file))}
    with files_read(code=True) as read:
        yield marks
    marks |= {file: mark for file in read - marks.keys() if (mark := marked(file))}


def _named(spec: str) -> list[Path]:
    path = Path(spec).expanduser().absolute()
    if path.is_dir():
        return [file for file in path.iterdir() if file.is_file()]
    file, colon, _ = spec.rpartition(":")
    is_code = colon and not path.exists() and file.endswith(".py")
    return [Path(file).expanduser().absolute() if is_code else path]


def changed(marks: Marks) -> bool:
    """Whether one of the files has been written anew; what is gone says nothing."""
    now = {file: marked(file) for file in marks}
    return any(mark not in (None, marks[file]) for file, mark in now.items())
