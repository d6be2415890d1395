"""Filling stores, for the commands that are not carried over yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnlens.cli.screen import Screen
from cnnlens.settings import ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model


def fill_stores(
    screen: Screen,
    space: Workspace,
    model: Model,
    images: ImageSet,
    layers: list[Layer],
    settings: ExtractSettings,
    run: RunSettings,
    logits: bool,
    force: bool,
) -> Path:
    """Make the missing stores, with a progress bar; return their folder."""
    from cnnlens.activations.extract import extract as extract_

    folder = space.stores(images)
    limit = 0
    with screen.progress() as bars:
        steps = extract_(
            model, images, layers, folder, settings=settings, run=run, logits=logits, force=force
        )
        for step in steps:
            bars.show("extracting", step.done, step.total)
            if limit and step.limit < limit:
                screen.note(f"memory ran out: batches of {step.limit} from here on")
            limit = step.limit
    return folder
