"""Importing a user's code, as it is now: with its neighbours, and without traces."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import invalidate_caches
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from cnnlens.model.architectures.own_code import find_own, is_own

_BROUGHT: dict[str, tuple[Path, str]] = {}  # modules of factories: files, marks of what these held


class Anew(SourceFileLoader):
    """Compiles a user's file whenever it is opened, and leaves no bytecode beside it.

    Python takes bytecode for the file's as long as size and second of writing are the same, so that
    a network could be computed by one text and fingerprinted by another.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Compile the file."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


class _Finder(MetaPathFinder):
    """Imports a user's own modules anew, and notes which."""

    def __init__(self) -> None:
        self.found: dict[str, Path] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not is_own(name, Path()):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or not spec.origin:
            return None
        file = Path(spec.origin).resolve()
        if not is_own(name, file):
            return None
        self.found[name] = file
        _BROUGHT[name] = file, _mark(file)
        spec.loader = Anew(name, spec.origin)
        return spec


@contextmanager
def importing(folder: Path) -> Iterator[dict[str, Path]]:
    """Within this block code can import its neighbours, as when it is run in its folder.

    A user's own modules are compiled from what their files hold now. Yields the names and files of
    those that are loaded.
    """
    finder, place = _Finder(), str(folder)
    sys.path.insert(0, place)
    sys.meta_path.insert(0, finder)
    invalidate_caches()  # files may have come since
    try:
        _forget_changed()
        yield finder.found
    finally:
        sys.meta_path.remove(finder)
        with suppress(ValueError):  # the code may have taken it away itself
            sys.path.remove(place)


def located(name: str, folder: Path) -> Path | None:
    """Find the file of a user's own module, without running anything; None of a library's."""
    with importing(folder):
        return dict(find_own(name)).get(name)


def _forget_changed() -> None:
    """Let the modules that factories brought be imported anew where one's file has changed, or
    its name leads to another file now.
    """
    for name, (file, mark) in _BROUGHT.items():
        if dict(find_own(name)).get(name, file) != file or _mark(file) != mark:
            break
    else:
        return
    for name in _BROUGHT:
        sys.modules.pop(name, None)
    _BROUGHT.clear()


def _mark(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
