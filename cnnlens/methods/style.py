"""``cnnlens style``: what one picture shows, in the manner of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, readable
from cnnlens.data.member_path import located
from cnnlens.errors import UsageError
from cnnlens.files import free_name
from cnnlens.files.ledger import Item, Ledger
from cnnlens.methods.method import Inputs
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.progress import Step, Words
from cnnlens.settings.inputs import raw_input
from cnnlens.settings.option import option
from cnnlens.settings.synthesize import StyleSettings

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.layer import Layer
    from cnnlens.report.blocks import Section

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
    raw: bool = raw_input()


def style_section(workspace: Path) -> Section | None:
    """Gather the page's part about style transfer."""
    from cnnlens.report.blocks import Gallery, Section, Shot

    ledger = Ledger(workspace / "style" / "style.json")
    title = "{content} in the style of {style}"
    losses = (
        "content {content_loss[0]:.3g} → {content_loss[1]:.3g}, "
        "style {style_loss[0]:.3g} → {style_loss[1]:.3g} (1: unlike)"
    )
    shots = [
        Shot(ledger.folder / entry["sheet"], title.format(**entry), losses.format(**entry))
        for entry in ledger.entries.values()
    ]
    note = "Maps of deep layers keep what a picture shows, Gram matrices how it is painted."
    return Section("style", "Style transfer", note, [Gallery(shots, wide=True)]) if shots else None


class Style(Pictured):
    """Style transfer: one picture's content in another's style.

    Minimizes the distance of deep maps from the content's and of Gram matrices from the style's,
    both relative. A network without trained weights makes little of it.
    """

    name, panel = "style", "Look at images"
    asks, settings_types, uses = StyleInputs, (StyleSettings,), ("device",)
    sections = (("style", style_section),)
    probes = (("", "synthesize.style.probe", "attribution.deconv.probe_gradient"),)
    columns = (
        *("picture", "content loss at first", "in the end"),
        *("style loss at first", "in the end"),
    )
    examples = (
        "cnnlens style torchvision:vgg19@IMAGENET1K_V1 --content cat.jpg --style monet.jpg",
        "cnnlens style --content cat.jpg --style monet.jpg --style-weight 3 --size 384",
    )

    def resolve(self) -> None:
        """Find the pictures and the layers."""
        asked, study = self.asked, self.study
        if asked.content is None or not asked.style:
            lacking = "content" if asked.content is None else "style"
            raise UsageError(f"no {lacking} image was named", f"name one with --{lacking} IMAGE")
        if located(asked.content).is_dir():
            raise UsageError(f"{asked.content} is a folder", "name one image with --content")
        (self.content,) = study.given([asked.content]).images
        self.of_images = study.given(asked.style).images
        self._choose_layers()
        self.ledger = study.ledger("style")
        self.part = self.add(self.ledger, [self._item(image) for image in self.of_images])
        if any("random weights" in note for note in study.model.notes):
            study.voice.note("the weights are random: the picture says little of any style")

    def image_of(self, item: Item) -> GivenImage:
        """Give the image in whose style a picture is."""
        image: GivenImage = item.subject
        return image

    def _choose_layers(self) -> None:
        from cnnlens.synthesize.style import content_and_style_layers

        study = self.study
        contents, styles, chosen = content_and_style_layers(study.addresses, study.model.arch)
        if not (self.asked.content_layer and self.asked.style_layer):
            study.voice.note(chosen)
        self.contents = self._layers(self.asked.content_layer, contents)
        self.style_layers = self._layers(self.asked.style_layer, styles)

    def _layers(self, named: Sequence[str], usual: Sequence[str]) -> list[Layer]:
        """Layers that are named; the usual ones are not the workspace's from here on."""
        if named:
            return self.study.layers(named)
        return [self.study.addresses.resolve(name) for name in usual]

    def _item(self, image: GivenImage) -> Item:
        pair, taken = [self.content.place, image.place], self.ledger.entries
        name = free_name(  # other images may have these names
            f"{self.content.name}--{image.name}",
            lambda name: taken.get(f"{name}.png", {}).get("pair", pair) != pair,
        )
        made_from = self.study.key(
            content=self.content.mark,
            image=image.mark,
            places=[[one.place.key for one in some] for some in (self.contents, self.style_layers)],
            settings=self.settings.as_dict(),
            **self._bands(image),
        )
        sheets = (f"sheets/{name}.png",)
        return Item(f"{name}.png", made_from, sheets, image, raw=self.asked.raw)

    def _bands(self, image: GivenImage) -> dict[str, Any]:
        """What a picture depends on besides, of bands: earlier versions read three of them."""
        from cnnlens.data.decode import DamagedImage

        channels = self.study.model.preprocess.channels
        with suppress(DamagedImage):  # which is said when its turn comes
            if any(one.planes(channels) is not None for one in (self.content, image)):
                return {"bands": channels}
        return {}

    def plan(self) -> str:
        """Say how many pictures take how many passes."""
        words = self.to_make()
        return f"{words}, up to {self.settings.steps} passes each" if words else ""

    def work(self) -> Iterator[Step]:
        """Make a picture per style."""
        for number, item in enumerate(self.part.todo):
            yield from self._make(item, number)

    def _make(self, item: Item, number: int) -> Iterator[Step]:
        from cnnlens.synthesize.style import transfer

        content, style = self._read(self.content), self._read(item.subject)
        steps, first = self.settings.steps, None
        for step in transfer(
            self.study.model, content, style, self.contents, self.style_layers, self.settings
        ):
            first = first or step.losses()
            note = Words(partial("loss {0.loss:.3f}".format, step))
            done = number * steps + step.number
            yield Step(done, len(self.part.todo) * steps, "style", note=note, unit="steps")
        assert first is not None
        last = step.losses()
        entry = {
            "file": item.name,
            "sheet": item.files[0],
            "pair": [self.content.place, item.subject.place],
            "content": self.content.shown,
            "style": item.subject.shown,
            "content_layers": [layer.name for layer in self.contents],
            "style_layers": [layer.name for layer in self.style_layers],
            "content_loss": [first.content, last.content],
            "style_loss": [first.style, last.style],
        }
        self.part.ledger.begin(item)
        self._write(item, entry, content, style, step.image())
        self.part.ledger.keep(item, entry)

    def _read(self, image: GivenImage) -> Tensor:
        from cnnlens.synthesize.style import picture

        channels = self.study.model.preprocess.channels
        with readable("name another image"):
            planes = image.planes(channels)
            loaded = image.load(channels) if planes is None else planes
        return picture(self.study.model, loaded, self.settings.size)

    def _write(
        self, item: Item, entry: dict[str, Any], content: Tensor, style: Tensor, made: Tensor
    ) -> None:
        from cnnlens.files import write_npz
        from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet
        from cnnlens.report.sheet import save_png

        loss = "content loss {content_loss[1]:.3g}, style loss {style_loss[1]:.3g}"
        planes = [one.cpu().numpy().astype("float32") for one in (content, style, made)]
        shown = [as_picture(one) for one in planes]
        names = self.content.path.name, item.subject.path.name, loss.format(**entry)
        heads = "content", "style", "together"
        cells = [SheetCell(*cell) for cell in zip(shown, heads, names, strict=True)]
        save_png(self.part.file(item), shown[-1])
        laid_out = sheet(cells, self.study.model.arch, cell=320)
        save_png(self.part.ledger.folder / item.files[0], laid_out)
        if self.asked.raw:
            arrays = dict(zip(("content", "style", "image"), planes, strict=True))
            write_npz(self.part.file(item, ".npz"), **arrays)

    def summary(self, part: Part) -> dict[str, Any]:
        """Say how pictures are made now."""
        return {"settings": self.settings.as_dict()}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give both losses, at the start and in the end."""
        losses = (round(value, 4) for value in (*entry["content_loss"], *entry["style_loss"]))
        yield entry["file"], *losses
