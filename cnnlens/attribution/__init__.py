"""One backward pass with other rules: what of an image drove a unit or a class."""
