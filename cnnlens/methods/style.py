"""``cnnlens style``: what one picture shows, in the manner of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError
from cnnlens.methods.method import Inputs, Method, Results
from cnnlens.progress import Step
from cnnlens.settings.option import option
from cnnlens.settings.style import StyleSettings
from cnnlens.study.images import GivenImage
from cnnlens.study.ledger import Item, Ledger

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.report.blocks import Section
    from cnnlens.report.shown import PictureResults

_LAYERS = "repeatable. Default: the papers' on VGG, else evenly spaced convolutions."


@dataclass(frozen=True)
class StyleInputs(Inputs):
    """Which pictures, and where they are read."""

    content: Path | None = option(None, "What is to be shown.", metavar="IMAGE", panel="What")
    style: tuple[Path, ...] = option(
        (), "In whose manner; repeatable, a picture each.", metavar="IMAGE", panel="What"
    )
    content_layer: tuple[str, ...] = option(
        (), f"Where the content is read; {_LAYERS}", metavar="LAYER", panel="What"
    )
    style_layer: tuple[str, ...] = option(
        (), f"Where the style is read; {_LAYERS}", metavar="LAYER", panel="What"
    )


def style_section(workspace: Path) -> Section | None:
    """Gather the page's part about style transfer."""
    from cnnlens.report.blocks import Gallery, Section, Shot

    ledger = Ledger(workspace / "style" / "style.json")
    shots = [
        Shot(
            ledger.folder / entry["sheet"],
            f"{entry['content']} in the style of {entry['style']}",
            f"content {entry['content_loss'][0]:.3g} → {entry['content_loss'][1]:.3g}, "
            f"style {entry['style_loss'][0]:.3g} → {entry['style_loss'][1]:.3g} (1: unlike)",
        )
        for entry in ledger.entries.values()
    ]
    note = "Maps of deep layers keep what a picture shows, Gram matrices how it is painted."
    return Section("style", "Style transfer", note, [Gallery(shots)]) if shots else None


class Style(Method):
    """Style transfer: one picture's content in another's style.

    Minimizes the distance of deep maps from the content's and of Gram matrices from the style's,
    both relative. A network without trained weights makes little of it.
    """

    name, panel = "style", "Look at images"
    asks, settings_types, uses = StyleInputs, (StyleSettings,), ("device",)
    sections = (("style", style_section),)
    examples = (
        "cnnlens style torchvision:vgg19@IMAGENET1K_V1 --content cat.jpg --style monet.jpg",
        "cnnlens style --content cat.jpg --style monet.jpg --style-weight 3 --size 384",
    )

    def resolve(self) -> None:
        """Find the pictures and the layers."""
        if self.asked.content is None or not self.asked.style:
            lacking = "content" if self.asked.content is None else "style"
            raise UsageError(f"no {lacking} image was named", f"name one with --{lacking} IMAGE")
        if self.asked.content.is_dir():
            raise UsageError(f"{self.asked.content} is a folder", "name one image with --content")
        self.ledger = self.study.ledger("style")
        (self.content,) = self.study.given([self.asked.content]).images
        self.styles = self.study.given(self.asked.style).images
        self._choose_layers()
        self.items = [self._item(image) for image in self.styles]
        model = self.study.model
        if any("random weights" in note for note in model.notes):
            self.study.voice.note("the weights are random: the picture says little of any style")

    def _choose_layers(self) -> None:
        from cnnlens.synthesize.style import content_and_style_layers

        study = self.study
        contents, styles, chosen = content_and_style_layers(study.addresses, study.model.arch)
        if not (self.asked.content_layer and self.asked.style_layer):
            study.voice.note(chosen)
        self.contents = study.layers(self.asked.content_layer or contents)
        self.style_layers = study.layers(self.asked.style_layer or styles)

    def _item(self, image: GivenImage) -> Item:
        name = f"{self.content.name}--{image.name}"
        made_from = self.study.key(
            content=self.content.mark,
            image=image.mark,
            places=[[one.place.key for one in some] for some in (self.contents, self.style_layers)],
            settings=self.settings.as_dict(),
        )
        return Item(f"{name}.png", made_from, (f"{name}-sheet.png",), image)

    def plan(self) -> str:
        """Say how many pictures take how many passes."""
        return f"{len(self.items)} pictures, up to {self.settings.steps} passes each"

    def work(self) -> Iterator[Step]:
        """Make a picture per style."""
        todo = self.missing(self.ledger, self.items)
        for number, item in enumerate(todo):
            yield from self._make(item, number, len(todo))

    def _make(self, item: Item, number: int, total: int) -> Iterator[Step]:
        from cnnlens.synthesize.style import transfer

        content, style = self._read(self.content), self._read(item.subject)
        steps = self.settings.steps
        first = None
        for step in transfer(
            self.study.model, content, style, self.contents, self.style_layers, self.settings
        ):
            first = first or step.losses()
            note = f"loss {step.loss:.3f}"
            yield Step(
                number * steps + step.number, total * steps, "style", note=note, unit="steps"
            )
        assert first is not None
        last = step.losses()
        entry = {
            "file": item.name,
            "sheet": item.files[0],
            "content": self.content.shown,
            "style": item.subject.shown,
            "content_layers": [layer.name for layer in self.contents],
            "style_layers": [layer.name for layer in self.style_layers],
            "content_loss": [first.content, last.content],
            "style_loss": [first.style, last.style],
        }
        self._write(item, entry, content, style, step.image())
        self.ledger.keep(item, entry)

    def _read(self, image: GivenImage) -> Tensor:
        """A picture (C, h, w) in [0, 1] at the asked size, its proportions kept."""
        import torch

        from cnnlens.synthesize.invert import input_plane

        model = self.study.model
        side = self.settings.size or min(model.preprocess.size)
        return input_plane(model, torch.from_numpy(image.scaled(side, model.preprocess.channels)))

    def _write(
        self, item: Item, entry: dict[str, Any], content: Tensor, style: Tensor, made: Tensor
    ) -> None:
        from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet
        from cnnlens.report.sheet import save_png

        picture, folder = as_picture(made.cpu().numpy()), self.ledger.folder
        save_png(folder / item.name, picture)
        loss = "content loss {content_loss[1]:.3g}, style loss {style_loss[1]:.3g}"
        cells = [
            SheetCell(as_picture(content.cpu().numpy()), "content", self.content.path.name),
            SheetCell(as_picture(style.cpu().numpy()), "style", item.subject.path.name),
            SheetCell(picture, "together", loss.format(**entry)),
        ]
        save_png(folder / item.files[0], sheet(cells, self.study.model.arch, cell=320))

    def close(self) -> None:
        """List the pictures."""
        self.summaries = {"style": self.ledger.close({"settings": self.settings.as_dict()})}

    def show(self, results: Results) -> None:
        """Show both losses, at the start and in the end."""
        rows = [
            (name, *(round(v, 4) for v in (*entry["content_loss"], *entry["style_loss"])))
            for name, entry in self.ledger.entries.items()
        ]
        columns = ["picture", "content loss at first", "in the end", "style loss at first"]
        results.table([*columns, "in the end"], rows)
        results.say(f"pictures: {self.ledger.folder}")

    def result(self) -> PictureResults:
        """Return the pictures that were asked for."""
        return self.pictures(self.ledger, self.items)
