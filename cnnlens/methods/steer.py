"""``cnnlens ablate --steer``: an image's class scores with a unit turned up or down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage
from cnnlens.data.picture_names import fitting
from cnnlens.errors import UsageError
from cnnlens.files import mark
from cnnlens.files.ledger import Item
from cnnlens.progress import Step

if TYPE_CHECKING:
    from cnnlens.methods.ablate import Ablate
    from cnnlens.model.layer import Layer

COLUMNS = ("picture", "as it is", "then", "rises most", "by", "falls most", "by")
FOLDER = "ablate/steer"


class Steering:
    """Turns each of some units up or down on each of some images.

    Parameters
    ----------
    method : Ablate
        Says which; its units are resolved.
    """

    def __init__(self, method: Ablate) -> None:
        self._method, self._study = method, method.study
        asked = method.asked
        if asked.steer is None or not asked.image:
            lacks = "add --steer FACTOR" if asked.image else "name images with -i IMAGE"
            raise UsageError("a unit is turned up or down on an image by a factor", lacks)
        from cnnlens.synthesize.answers import Answers

        self._study.name_classes()
        self._answers = Answers(self._study.model)
        self.ledger = self._study.ledger(FOLDER, file="steer.json")
        self.images = self._study.given(asked.image, [self.ledger])
        self.items = [
            self._item(image, layer, unit)
            for image in self.images.images
            for layer in method.layers
            for unit in method.units[layer.place]
        ]
        self.todo = method.missing(self.ledger, self.items)

    def _item(self, image: GivenImage, layer: Layer, unit: int) -> Item:
        factor, study = self._method.asked.steer, self._study
        stem = fitting(f"{image.name}--{layer.folder}-{unit}-times-{factor:g}")
        names = mark(study.model.classes)
        key = study.key(
            layer, image=image.mark, unit=unit, factor=factor, names=names, **study.head
        )
        return Item(f"{stem}.png", key, (), (image, layer, unit))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What was asked for and is there."""
        there = self.ledger.there(self.items, self.todo)
        return [self.ledger.entries[item.name] for item in there]

    def work(self) -> Iterator[Step]:
        """Ask about one image and layer after the other, all units of a layer at once."""
        import torch

        groups: dict[tuple[GivenImage, Layer], list[Item]] = {}
        for item in self.todo:
            groups.setdefault(item.subject[:2], []).append(item)
        wanted = list(dict.fromkeys(image for image, _ in groups))
        pixels = {
            image: torch.from_numpy(values)
            for image, values in self.images.read(self._study.model.preprocess, wanted)
        }
        done = 0
        for (image, layer), items in groups.items():
            if image in pixels:
                self._make(image, layer, items, pixels[image])
            done += len(items)
            yield Step(done, len(self.todo), "steering", unit="pictures")

    def _make(self, image: GivenImage, layer: Layer, items: Sequence[Item], pixels: Any) -> None:
        from cnnlens.measure.steered import steer
        from cnnlens.measure.without import Asker
        from cnnlens.report.steer_files import save_steered

        factor, study = self._method.asked.steer, self._study
        units = [item.subject[2] for item in items]
        asker = Asker(
            study.model, layer, study.run.batch_size, self._answers.place, study.voice.note
        )
        found = steer(asker, units, factor, pixels, self._answers.names, self._answers.shares)
        for item, one in zip(items, found, strict=True):
            about: dict[str, Any] = {"file": item.name, "name": image.name, "image": image.shown}
            about |= {"layer": layer.name, "unit": item.subject[2], "factor": factor}
            entry = about | one.as_dict()
            self.ledger.begin(item)
            save_steered(self.ledger.folder / item.name, image.load(3), entry)
            self.ledger.keep(item, entry)

    def close(self) -> dict[str, Any]:
        """List the pictures; say which images could not be read."""
        self._study.voice.skipped(self.images.skipped)
        return self.ledger.close({"skipped": self.images.skipped})

    def rows(self) -> Iterator[Sequence[object]]:
        """Give the table's rows."""
        for entry in self.entries:
            up, down = entry["rises"], entry["falls"]
            changes = up["class"], up["change"], down["class"], down["change"]
            yield entry["file"], entry["predicted"], entry["then"], *changes
