"""The files that a network was opened from, and whether they are what they were then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cnnlens.files import Mark, marked
from cnnlens.files.home import cache_home, home
from cnnlens.model.files_read import files_read, is_lasting

Marks = Mapping[Path, Mark]
_HOUSE = Path(__file__).parents[1]  # cnnlens itself


@contextmanager
def opened_from(spec: str) -> Iterator[Marks]:
    """Collect what a MODEL is opened from meanwhile: the file or folder that it names, and whatever
    code opens for it.
    """
    # taken before it is read: what is written meanwhile is another one then
    marks = {file: mark for file in _named(str(spec)) if (mark := marked(file))}
    with files_read(code=True) as read:
        yield marks
    more = filter(_says_of_it, read - marks.keys())
    marks |= {file: mark for file in more if (mark := marked(file))}


def _says_of_it(file: Path) -> bool:
    """Whether a file that was read may be the network's: what cnnlens itself keeps is written by
    other processes, too.
    """
    kept = file.parent == home().absolute() or file.is_relative_to(cache_home().absolute())
    return not kept and not file.is_relative_to(_HOUSE) and is_lasting(file)


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
