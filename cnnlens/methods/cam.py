"""``cnnlens cam``: where on a photo a class was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage
from cnnlens.files import mark
from cnnlens.files.ledger import Item
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.progress import Step
from cnnlens.settings.attribution import CamSettings
from cnnlens.settings.inputs import images_input, layer_input, raw_input
from cnnlens.settings.option import option

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.found import Found


@dataclass(frozen=True)
class CamInputs(Inputs):
    """Which images, classes and maps."""

    image: tuple[Path, ...] = images_input()
    classes: tuple[str, ...] = option(
        (),
        "A class, by name or number; repeatable.",
        name="class",
        metavar="CLASS",
        shown="the predicted one",
        panel="What",
    )
    layer: str | None = layer_input(
        "Where to look. Default: the maps that the class weights act on (cam); the maps that "
        "enter the global pooling, else last (gradcam)."
    )
    raw: bool = raw_input()


class Cam(Pictured):
    """Class maps: where on an image the network saw a class.

    Class activation maps (CAM) where the network has such a head, Grad-CAM on any layer's maps.
    Without --class: the predicted class, or the likeliest ones with --top.
    """

    name, panel = "cam", "Look at images"
    asks, settings_types, uses = CamInputs, (CamSettings,), ("device", "batch_size")
    sections = (("cam", page_part("sections.class_maps")),)
    columns = ("picture", "class", "number", "score", "probability")
    part: Part
    probes = (
        ("", "attribution.cam.probe_cam"),
        ("--method gradcam", "attribution.cam.probe_gradcam"),
    )
    examples = (
        "cnnlens cam model.pt -i dog.jpg --top 3",
        "cnnlens cam -i photos/ --class tiger --method gradcam -l layer3",
    )

    def resolve(self) -> None:
        """Find images and classes; see whether the network has the head that CAM needs."""
        ledger = self.study.ledger("cam")
        self.images = self.study.given(self.asked.image, [ledger])
        from cnnlens.attribution.cam import ClassMaps
        from cnnlens.model.classes import find_class

        self.study.name_classes()
        model = self.study.model
        self.maps = ClassMaps(model, self.settings.method, self.asked.layer)
        self.study.say_heads(self.maps.notes)
        found = [find_class(text, model.classes, self.maps.count) for text in self.asked.classes]
        self.classes = found or None
        self.of_images = self.images.images
        self.part = self.add(ledger, [self._item(image) for image in self.images.images])

    def image_of(self, item: Item) -> GivenImage:
        """Give the image whose maps a picture shows."""
        image: GivenImage = item.subject
        return image

    def _item(self, image: GivenImage) -> Item:
        made_from = self.study.key(
            method=self.settings.method,
            place=self.maps.place.key,
            classes=self.classes or f"top {self.settings.top}",
            names=mark(self.study.model.classes),
            image=image.mark,
            **self.study.head,
        )
        serves = partial(_serves, made_from)
        return Item(f"{image.name}.png", made_from, (), image, serves, self.asked.raw)

    def work(self) -> Iterator[Step]:
        """Draw one picture per image."""
        todo, model = {item.subject: item for item in self.part.todo}, self.study.model
        size = model.batch or self.study.run.batch_size
        read = self.images.read(model.preprocess, todo)
        yield Step(0, len(todo), "class maps")
        looked = self.maps.each(read, size, self.classes, self.settings.top)
        for done, (image, pixels, found) in enumerate(looked, 1):
            self.part.ledger.begin(todo[image])
            self.part.ledger.keep(todo[image], self._draw(todo[image], pixels, found))
            yield Step(done, len(todo), "class maps")

    def _draw(self, item: Item, pixels: np.ndarray, found: Found) -> dict[str, Any]:
        """Draw one image's maps; return its entry in the JSON."""
        from cnnlens.files import write_npz
        from cnnlens.report.figures.attribution import as_rgb, draw_classes
        from cnnlens.report.method_names import CLASS_MAPS
        from cnnlens.report.sheet import save_png

        arrays, entry = found.arrays(), found.as_dict(self.study.model.classes, self.maps.method)
        how = CLASS_MAPS[self.settings.method]
        image, words = as_rgb(pixels), f"{how} at {self.maps.layer}"
        drawn = draw_classes(image, arrays["maps"], entry["classes"], item.subject.path.name, words)
        save_png(self.part.file(item), drawn)
        if self.asked.raw:
            shown = image.transpose(2, 0, 1).astype("float32") / 255
            write_npz(self.part.file(item, ".npz"), image=shown, **arrays)
        about = {"file": item.name, "layer": self.maps.layer, "image": item.subject.shown}
        return about | entry

    def close(self) -> None:
        """List the pictures; say which images could not be read."""
        self.study.voice.skipped(self.images.skipped)
        super().close()

    def summary(self, part: Part) -> dict[str, Any]:
        """Say where was looked for what."""
        settings = {**self.settings.as_dict(), "layer": self.maps.layer, "classes": self.classes}
        return {"settings": settings, "skipped": self.images.skipped}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give a row per class."""
        for c in entry["classes"]:
            share = None if c["probability"] is None else round(c["probability"], 4)
            yield entry["file"], c["name"], c["class"], round(c["score"], 4), share


def _serves(wanted: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether a picture that begins with the same classes, but for that alike, is there already."""
    mine, theirs = wanted["classes"], earlier.get("classes")
    if {**earlier, "classes": mine} != dict(wanted):
        return False
    if isinstance(mine, list):
        return isinstance(theirs, list) and theirs[: len(mine)] == mine
    more = re.fullmatch(r"top (\d+)", theirs) if isinstance(theirs, str) else None
    return more is not None and int(mine.removeprefix("top ")) <= int(more[1])
