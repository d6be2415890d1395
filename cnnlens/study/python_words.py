"""Notes and errors as Python says it: what every call may meet, the flags of redoing and of where.

Other options have their flags' names as keywords, which docs/python.md says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cnnlens.errors import CnnlensError
from cnnlens.voice import Voice

_WORDS = {r"--force\b": "force=True", r"-w DIR\b": 'Investigation(model, "DIR")'}


def in_python(text: str) -> str:
    """Say it with keywords: ``(--force redoes it)`` becomes ``(force=True redoes it)``."""
    for flag, words in _WORDS.items():
        text = re.sub(rf"(?<![\w-]){flag}", words, text)
    return text


@dataclass
class PythonVoice(Voice):
    """A voice that says it so."""

    def note(self, text: str) -> None:
        """Say something once."""
        super().note(in_python(text))


@contextmanager
def python_errors() -> Iterator[None]:
    """Have errors of this block say it so."""
    try:
        yield
    except CnnlensError as error:
        error.message, error.hint = in_python(error.message), in_python(error.hint)
        raise
