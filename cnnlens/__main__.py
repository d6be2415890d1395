"""``cnnlens`` and ``python -m cnnlens``: the way in; Ctrl-C while loading ends quietly."""

# pathlib may be a file of the user's, see below
# ruff: noqa: PTH100, PTH109, PTH120, PTH121
from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line."""
    _occupy()
    # PyTorch alone is 180,000 objects that stay: to look through them again and again while
    # they come, and once more at the end, takes as long as half of the import
    gc.set_threshold(20_000, 20, 20)
    try:
        from cnnlens.cli.allocator import keep_freed
        from cnnlens.cli.app import main as run
        from cnnlens.files.lent import lend_to_matplotlib
        from cnnlens.model.compiler_later import put_off

        put_off()
        keep_freed()
        lend_to_matplotlib()
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        run()
    finally:
        gc.freeze()


def _occupy() -> None:
    """Let no file take a closed standard stream's place: libraries in C write there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


def leave_out_here() -> None:
    """Let the user's folder lend no module: a ``numbers.py`` beside images is not Python's.

    ``python -m`` looks there first, as the console script does not; factories are found all the
    same. A folder that holds this package stays.
    """
    house = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[:1] in ([""], [os.getcwd()]) and not os.path.samefile(os.curdir, house):
        del sys.path[0]


if __name__ == "__main__":
    leave_out_here()
    main()
