"""``python -m cnnlens``."""

from cnnlens.cli.app import main

if __name__ == "__main__":
    main()
