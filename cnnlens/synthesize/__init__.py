"""Optimizing an input: objective, image, regularizers, transforms, and the loop that joins them."""
