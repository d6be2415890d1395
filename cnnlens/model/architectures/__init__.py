"""Architectures by name: torchvision's, timm's, the papers', the user's own code."""
