"""``cnnlens cam``: where on a photo a class was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.methods.method import (
    Inputs,
    Method,
    Results,
    images_input,
    layer_input,
    raw_input,
)
from cnnlens.progress import Step
from cnnlens.settings.attribution import CamSettings
from cnnlens.settings.option import option
from cnnlens.study.images import GivenImage
from cnnlens.study.ledger import Item

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.cam import Found
    from cnnlens.report.blocks import Section
    from cnnlens.report.shown import PictureResults

_WORDS = {"cam": "class activation maps", "gradcam": "Grad-CAM"}


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


def class_maps(workspace: Path) -> Section | None:
    """Gather the page's part about class maps."""
    from cnnlens.report.sections import class_maps as gather

    return gather(workspace)


class Cam(Method):
    """Class maps: where on an image the network saw a class.

    Class activation maps (CAM) where the network has such a head, Grad-CAM on any layer's maps.
    Without --class: the predicted class, or the likeliest ones with --top.
    """

    name, panel = "cam", "Look at images"
    asks, settings_types, uses = CamInputs, (CamSettings,), ("device", "batch_size")
    sections = (("cam", class_maps),)
    examples = (
        "cnnlens cam model.pt -i dog.jpg --top 3",
        "cnnlens cam -i photos/ --class tiger --method gradcam -l layer3",
    )

    def resolve(self) -> None:
        """Find images and classes; see whether the network has the head that CAM needs."""
        self.ledger = self.study.ledger("cam")
        self.images = self.study.given(self.asked.image, [self.ledger])
        from cnnlens.attribution.cam import ClassMaps
        from cnnlens.model.classes import find_class

        model = self.study.model
        self.maps = ClassMaps(model, self.settings.method, self.asked.layer)
        self.classes = [
            find_class(text, model.classes, self.maps.count) for text in self.asked.classes
        ] or None
        self.items = [self._item(image) for image in self.images.images]

    def _item(self, image: GivenImage) -> Item:
        made_from = self.study.key(
            method=self.settings.method,
            place=self.maps.place.key,
            classes=self.classes or f"top {self.settings.top}",
            image=image.mark,
        )
        others = (f"{image.name}.npz",) if self.asked.raw else ()
        return Item(f"{image.name}.png", made_from, others, image)

    def work(self) -> Iterator[Step]:
        """Draw one picture per image."""
        todo = {item.subject: item for item in self.missing(self.ledger, self.items)}
        done = 0
        yield Step(0, len(todo), "class maps")
        images = self.images.read(self.study.model.preprocess, todo)
        while batch := list(islice(images, self.study.model.batch or self.study.run.batch_size)):
            found = self._look([pixels for _, pixels in batch])
            for row, (image, pixels) in enumerate(batch):
                self.ledger.keep(todo[image], self._picture(image, pixels, found, row))
                done += 1
                yield Step(done, len(todo), "class maps")

    def close(self) -> None:
        """List the pictures."""
        self.study.voice.skipped(self.images.skipped)
        settings = {**self.settings.as_dict(), "layer": self.maps.layer, "classes": self.classes}
        summary = {"settings": settings, "skipped": self.images.skipped}
        self.summaries = {"cam": self.ledger.close(summary)}

    # ---- one picture

    def _look(self, pixels: list[np.ndarray]) -> Found:
        """Run the network on images (C, H, W); a fixed batch is filled up with the last one."""
        import numpy as np
        import torch

        model = self.study.model
        rows = pixels + pixels[-1:] * ((model.batch or 0) - len(pixels))
        x = model.preprocess.normalize(torch.from_numpy(np.stack(rows)).to(model.device))
        return self.maps(x, self.classes, min(self.settings.top, self.maps.count))

    def _picture(
        self, image: GivenImage, pixels: np.ndarray, found: Found, row: int
    ) -> dict[str, Any]:
        """Draw one image's maps; return its entry in the JSON."""
        from cnnlens.report.figures.cam import ClassHeat, draw
        from cnnlens.report.sheet import save_png

        maps = found.maps[row].float().cpu().numpy()  # (K, h, w)
        classes = found.described(row, self.study.model.classes)
        shown = [
            ClassHeat(heat, c["name"], f"score {c['score']:.4g}   {c['probability']:.1%}")
            for heat, c in zip(maps, classes, strict=True)
        ]
        rgb = (pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)).transpose(1, 2, 0)
        words = f"{_WORDS[self.settings.method]} at {self.maps.layer}"
        file = self.ledger.folder / f"{image.name}.png"
        save_png(file, draw(rgb, shown, image.path.name, words))
        if self.asked.raw:
            _write_raw(file.with_suffix(".npz"), rgb, maps, classes)
        score = classes[0]["score"]
        return {
            "file": file.name,
            "layer": self.maps.layer,
            "image": image.shown,
            "class": classes[0]["class"],
            "class_name": classes[0]["name"],
            "method": self.settings.method,
            "initial": score,
            "final": score,
            "trace": [score],
            "classes": classes,
        }

    def show(self, results: Results) -> None:
        """Show the classes of every picture that was asked for."""
        names = {item.name for item in self.items}
        rows = [
            (entry["file"], c["name"], c["class"], round(c["score"], 4), round(c["probability"], 4))
            for entry in self.ledger.entries.values()
            if entry["file"] in names
            for c in entry["classes"]
        ]
        results.table(["picture", "class", "number", "score", "probability"], rows)
        results.say(f"pictures: {self.ledger.folder}")

    def result(self) -> PictureResults:
        """Return the pictures that were asked for."""
        return self.pictures(self.ledger, self.items)


def _write_raw(
    path: Path, rgb: np.ndarray, maps: np.ndarray, classes: list[dict[str, Any]]
) -> None:
    """Write what the picture was drawn from: the first class's map, and all of them."""
    import numpy as np

    from cnnlens.files import write_npz

    write_npz(
        path,
        image=rgb.transpose(2, 0, 1).astype(np.float32) / 255,
        map=maps[0],
        maps=maps,
        classes=np.array([c["class"] for c in classes]),
        scores=np.array([c["score"] for c in classes], np.float32),
    )
