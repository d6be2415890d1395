"""Networks trained so that their filters stand for something."""
