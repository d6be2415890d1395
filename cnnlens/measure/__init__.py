"""Arithmetic on cached activations: thresholds, IoU, top images."""
