"""Which code the user has named. A checkpoint and a workspace name code, too, and may be somebody
else's: what they name is run only where the user has named it to cnnlens before, on this machine.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from cnnlens.errors import UsageError
from cnnlens.files.home import home
from cnnlens.model.architectures.importing import located
from cnnlens.model.architectures.own_code import folder_of, is_factory

_FILE = "named-code.txt"  # a line per place of code, as JSON has texts
_NAMED: set[str] = set()  # in this process: a home may be read-only


def trust(spec: str) -> None:
    """Remember that the user has named ``file.py:factory`` or ``package.module:factory``."""
    mark = _mark(spec)
    if mark in _NAMED:
        return
    _NAMED.add(mark)
    if mark in _known():
        return
    with suppress(OSError):
        home().mkdir(parents=True, exist_ok=True)
        # a line in one piece, however many processes write; one before it may have been cut
        file = os.open(home() / _FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"\n{json.dumps(mark)}\n".encode())
        finally:
            os.close(file)


def check_trusted(spec: str, whose: str, way: str) -> None:
    """Refuse code that the user has not named before.

    Parameters
    ----------
    spec : str
        ``file.py:factory`` or ``package.module:factory``; anything else is no code.
    whose : str
        What names it, as "model.pt is built by".
    way : str
        How the user names it.

    Raises
    ------
    UsageError
        When a checkpoint or a workspace alone has named it.
    """
    place = spec.rpartition(":")[0]
    is_gone = place.endswith(".py") and not Path(place).expanduser().exists()  # as is said then
    if not is_factory(spec) or is_gone:
        return
    mark = _mark(spec)
    if mark not in _NAMED and mark not in _known():
        raise UsageError(
            f"{whose} {spec}, code that was not named to cnnlens on this machine; it could do "
            "anything",
            f"if you trust it, name it yourself: {way}",
        )


def _mark(spec: str) -> str:
    """Where code lies, so that the same name elsewhere is other code; of a library its name."""
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        return f"{Path(place).expanduser().resolve()}:{name}"
    file = located(place, folder_of(spec))
    return f"{spec} in {file}" if file else spec


def _known() -> set[str]:
    try:
        lines = (home() / _FILE).read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    known = set()
    for line in lines:
        with suppress(ValueError):
            known.add(str(json.loads(line)))
    return known
