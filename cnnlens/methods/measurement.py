"""What methods share that measure whole layers: one folder of tables per layer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnnlens.methods.method import Method
from cnnlens.progress import Step, relayed
from cnnlens.study.ledger import Item

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.study.session import Study

SUMMARY = "summary.json"
Found = TypeVar("Found")


class Measurement(Method):
    """A method whose results on a layer are a folder, written whole, with a summary in it.

    A subclass opens `images` and `layers`, says what a layer's results are `made_from`, writes
    them, and reads them back. Without a page no pictures are wanted: the setting `top` is 0.

    Attributes
    ----------
    images : ImageSet
        What is measured on.
    layers : list of Layer
        What is measured.
    written : list of Layer
        Those that this run has measured.
    """

    images: ImageSet
    layers: list[Layer]

    def __init__(
        self, study: Study, asked: Any = None, settings: Any = None, page: bool = True
    ) -> None:
        super().__init__(study, asked, settings, page)
        self.settings = self.settings if page else replace(self.settings, top=0)
        self.written: list[Layer] = []

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Say everything that a layer's results depend on, the settings under "settings"."""
        raise NotImplementedError

    def read(self, folder: Path) -> Any:
        """Read a layer's results; raise where they are damaged."""
        raise NotImplementedError

    def folder(self, layer: Layer) -> Path:
        """Where a layer's results are."""
        return self.study.folder(self.name, layer)

    @cached_property
    def todo(self) -> list[Layer]:
        """Layers to be measured; damaged results are reported and left."""
        return [layer for layer in self.layers if not self._is_made(layer)]

    def _is_made(self, layer: Layer) -> bool:
        ledger = self.study.ledger(self.name, layer, SUMMARY, listed="")
        if self.study.force or SUMMARY not in ledger.entries:
            return False
        self.read(self.folder(layer))
        mine = self.made_from(layer)
        return ledger.is_made(Item(SUMMARY, mine, serves=lambda earlier: _serves(earlier, mine)))

    def plan(self) -> str:
        """Say which layers are measured on what, and which were before."""
        done = [layer.name for layer in self.layers if layer not in self.todo]
        if done:
            self.study.voice.note(
                f"{', '.join(done)}: done before with these settings (--force redoes it)"
            )
        units = [f"{layer.units} units of {layer.name}" for layer in self.todo]
        return f"{', '.join(units)}, on {len(self.images.paths)} images" if units else ""

    def named(self, name: str, steps: Generator[Step, None, Found]) -> Generator[Step, None, Found]:
        """Pass on steps with the layer's name before their stage; return what they return."""
        return relayed(steps, lambda step: replace(step, stage=f"{name}: {step.stage}"))

    def close(self) -> None:
        """Read the summaries of the layers that are measured."""
        from cnnlens.files import read_json

        self.summaries = {
            layer.name: read_json(self.folder(layer) / SUMMARY)
            for layer in self.layers
            if layer in self.written or layer not in self.todo
        }

    def result(self) -> Any:
        """Return one layer's results, or several by layer."""
        found = {layer.name: self.read(self.folder(layer)) for layer in self.layers}
        return found if len(self.asked.layer) > 1 else next(iter(found.values()))


def _serves(earlier: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """Whether results differ from those wanted in nothing but more pictures."""
    theirs, wanted = earlier.get("settings"), mine["settings"]
    if not isinstance(theirs, dict) or not isinstance(theirs.get("top"), int):
        return False
    alike = {**earlier, "settings": {**theirs, "top": wanted["top"]}} == mine
    return alike and theirs["top"] >= wanted["top"]
