"""``cnnlens`` and ``python -m cnnlens``: the way in; Ctrl-C while loading ends quietly."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cnnlens.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
