"""The demonstration's network: small enough to learn `shapes` on two cores in under a minute.

It is asked which of the nine kinds of figure (red square, blue circle, …) a picture shows, so that
the answer is made of all the concepts that dissection then looks for. The twin is the same network,
untrained: what it scores, any filters score.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnnlens.data.shapes import KINDS, paint, scenes
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.progress import Step

CLASSES = [f"{color} {shape}" for shape, color in KINDS]
_BATCH = 25


def pictures(images: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pictures (N, 3, size, size) uint8, and which kinds of figure they show (N, 9) float."""
    pixels = np.empty((images, size, size, 3), np.uint8)
    shown = np.zeros((images, len(KINDS)), np.float32)
    for number, scene in enumerate(scenes(images, size, seed)):
        pixels[number] = paint(scene, size)
        for figure in scene:
            shown[number, KINDS.index((figure.shape, figure.color))] = 1
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(shown)


def train(
    net: nn.Module, preprocess: Preprocess, images: int = 900, epochs: int = 4, seed: int = 0
) -> Iterator[Step]:
    """Train `net` in place to say which kinds of figure a picture shows.

    Yields
    ------
    Step
        After every batch.
    """
    x, y = pictures(images, preprocess.size[0], seed)
    generator = torch.Generator().manual_seed(seed)
    total = epochs * (images // _BATCH)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=total)
    net.train().to(memory_format=torch.channels_last)  # a fifth quicker on a CPU
    for step in range(total):
        if step % (images // _BATCH) == 0:
            order = torch.randperm(images, generator=generator)
        batch = order[step * _BATCH % (images // _BATCH * _BATCH) :][:_BATCH]
        logits = net(preprocess.normalize(x[batch]))  # (B, 9)
        loss = F.binary_cross_entropy_with_logits(logits, y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield Step(step + 1, total, "training", note=f"loss {loss.detach():.3f}", unit="steps")
    net.eval().to(memory_format=torch.contiguous_format)


def accuracy(net: nn.Module, preprocess: Preprocess, images: int = 450, seed: int = 1) -> float:
    """Share of right yes-or-no answers on pictures that training has not seen."""
    x, y = pictures(images, preprocess.size[0], seed)
    with torch.no_grad():
        parts = [net.eval()(preprocess.normalize(part)) > 0 for part in x.split(_BATCH)]
        said = torch.cat(parts)  # (N, 9)
    return float((said == (y > 0)).float().mean())


def save_trained(
    path: Path, epochs: int, seed: int, kept: Path | None = None
) -> Generator[Step, None, float]:
    """Train the zoo's `demo_net`, from weights of `seed` on, and write its checkpoint.

    In the folder `kept` it leaves one of every epoch.

    Yields
    ------
    Step
        After every batch; none for 0 epochs, which leave the weights as they are drawn.

    Returns
    -------
    float
        Its `accuracy`.
    """
    torch.manual_seed(seed)
    entry = ZOO["demo_net"]
    net = entry.make(len(CLASSES))
    about: tuple[Any, ...] = (net, "zoo:demo_net", entry.preprocess, CLASSES)

    def keep(epoch: int) -> None:
        if kept is not None:
            save_checkpoint(kept / f"epoch-{epoch}.pt", *about, epoch=epoch)

    keep(0)
    for step in train(net, entry.preprocess, epochs=epochs, seed=seed) if epochs else ():
        epoch, rest = divmod(step.done * epochs, step.total)
        if not rest:
            keep(epoch)
        yield step
    right = accuracy(net, entry.preprocess)
    save_checkpoint(path, *about, training={"accuracy": right}, epoch=epochs)
    return right
