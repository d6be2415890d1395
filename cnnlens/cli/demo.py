"""``cnnlens demo``."""

def demo() -> None:
    """All of it on a synthetic set."""
