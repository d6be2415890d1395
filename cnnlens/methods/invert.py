"""``cnnlens invert``: what layers still know of a photo."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, given_images
from cnnlens.errors import CnnlensError
from cnnlens.files.ledger import Item, Ledger
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured, counted
from cnnlens.progress import Step, relayed
from cnnlens.settings.option import data_input, images_input, layers_input, raw_input
from cnnlens.settings.synthesize import InvertSettings

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.layers import Layer
    from cnnlens.report.invert_files import Inverted
    from cnnlens.synthesize.reconstruct import Reconstruction


@dataclass(frozen=True)
class InvertInputs(Inputs):
    """Which images at which layers."""

    image: tuple[Path, ...] = images_input()
    layer: tuple[str, ...] = layers_input()
    data: Path | None = data_input(
        "Images whose mean distance errors are held against. "
        "Default: the workspace's data, else the given images."
    )
    raw: bool = raw_input()


@dataclass(frozen=True)
class Job:
    """One picture to be made: of an image, from a layer's answer, whole or perturbed."""

    layer: Layer
    ledger: Ledger
    image: GivenImage
    perturb: str

    @property
    def name(self) -> str:
        """Its file, below the layer's folder."""
        name = f"{self.image.name}.png"
        return name if self.perturb == "none" else f"{self.perturb}/{name}"

    @property
    def clean(self) -> Job:
        """The same without perturbation."""
        return replace(self, perturb="none")

    def entry(self) -> dict[str, Any] | None:
        """What is known of it; None before it is made."""
        return self.ledger.entries.get(self.name)

    def inverted(self, entry: dict[str, Any]) -> Inverted:
        """Describe it to those who draw it."""
        from cnnlens.report.invert_files import Inverted

        folder = self.ledger.folder
        return Inverted(self.layer.name, self.image.name, self.perturb, folder, entry)


class Invert(Pictured):
    """Invert layers: what is left of a photo in their activations.

    Searches for the picture that a layer answers as it answered the photo; what the picture lacks,
    the layer has forgotten.
    """

    name, panel = "invert", "Look at images"
    asks, settings_types, uses = InvertInputs, (InvertSettings,), ("device", "batch_size")
    sections = (("invert", page_part("sections.inversions")),)
    columns = ("layer", "image", "perturbed", "feature error", "of mean distance", "pixel RMSE")
    probes = (("", "attribution.deconv.probe_gradient"),)
    examples = (
        "cnnlens invert model.pt -l conv1 -l conv3 -l conv5 -i dog.jpg",
        "cnnlens invert -l conv5 -i photos/ --perturb binarize",
    )

    def resolve(self) -> None:
        """Find images, data and layers; see what is there already."""
        study = self.study
        given_images([Path(path) for path in self.asked.image])  # a missing one is an error first
        if self.asked.data is not None:
            study.images(self.asked.data)
        layers = study.layers(self.asked.layer, vectors=True)
        ledgers = [study.ledger("invert", layer) for layer in layers]
        self.images = study.given(self.asked.image, ledgers)
        self.changed = False
        kinds = dict.fromkeys(("none", self.settings.perturb))
        for layer, ledger in zip(layers, ledgers, strict=True):
            jobs = [Job(layer, ledger, image, k) for image in self.images.images for k in kinds]
            self.add(ledger, [self._item(job) for job in jobs], layer)

    def _item(self, job: Job) -> Item:
        from cnnlens.synthesize.invert import SEARCH

        settings = replace(self.settings, perturb=job.perturb).as_dict()
        mark = job.image.mark
        made_from = self.study.key(job.layer, settings=settings, image=mark, search=SEARCH)
        one, folder = job.inverted({}), job.ledger.folder
        beside = [one.original, one.picture]
        if self.asked.raw:
            beside.append((folder / job.name).with_suffix(".npz"))
        files = tuple(path.relative_to(folder).as_posix() for path in beside)
        return Item(job.name, made_from, files, job)

    def plan(self) -> str:
        """Say how many pictures are to be searched for."""
        todo: list[Job] = [item.subject for part in self.parts for item in part.todo]
        if not todo:
            return ""
        photos, layers, kinds = (
            len(set(these))
            for these in zip(*((job.image, job.layer, job.perturb) for job in todo), strict=True)
        )
        words = f"{counted(photos, 'photo')} × {counted(layers, 'layer')}"
        if kinds > 1:
            words += f", whole and perturbed ({self.settings.perturb})"
        if len(todo) < photos * layers * kinds:
            words = f"{counted(len(todo), 'picture')} of {counted(photos, 'photo')}"
        return f"{words}, {self.settings.steps} steps each"

    # ---- the pictures

    def work(self) -> Iterator[Step]:
        """Search for one picture per image, layer and perturbation; each image is read once."""
        import torch

        from cnnlens.synthesize.invert import input_plane
        from cnnlens.synthesize.reconstruct import Pairs

        examples = self.study.examples(self.images.images)
        self.pairs = Pairs(self.study.model, examples, self.study.run.batch_size)
        self._compare_anew()
        todo: dict[GivenImage, list[Item]] = {}
        for item in (item for part in self.parts for item in part.todo):
            todo.setdefault(item.subject.image, []).append(item)
        model, total, done = self.study.model, sum(map(len, todo.values())), 0
        for image, pixels in self.images.read(model.preprocess, todo):
            photo = input_plane(model, torch.from_numpy(pixels))
            for item in todo[image]:
                try:
                    yield from self._make(
                        item, photo, Step(done, total, "inverting", unit="pictures")
                    )
                except CnnlensError as error:  # the other pictures are made all the same
                    self.failed.append(error)
                done += 1
                yield Step(done, total, "inverting", unit="pictures")
        if self.failed and not any(part.ledger.entries for part in self.parts):
            raise self.failed.pop(0)

    def _make(self, item: Item, photo: Tensor, now: Step) -> Iterator[Step]:
        job: Job = item.subject
        found = yield from relayed(
            self._search(job, photo),
            lambda step: replace(now, note=f"step {step.done} of {step.total}, {step.note}"),
        )
        entry = {
            "file": job.name,
            "layer": job.layer.name,
            "image": job.image.shown,
            "name": job.image.name,
            "perturb": job.perturb,
            **found.as_dict(self.pairs.mark),
        }
        self._write(job, entry, found, photo)
        job.ledger.keep(item, entry)
        self.changed = True

    def _search(self, job: Job, photo: Tensor) -> Generator[Step, None, Reconstruction]:
        import torch

        from cnnlens.synthesize.reconstruct import reconstruct

        settings, effects = replace(self.settings, perturb=job.perturb), None
        if job.perturb == "drop-least":
            if (clean := job.clean.entry()) is None:
                raise CnnlensError(f"{job.image.path} was not inverted at {job.layer.name}")
            effects = torch.tensor(clean["effects"])
        pairs, name = self.pairs.distance(job.layer), str(job.image.path)
        return reconstruct(self.study.model, job.layer, photo, settings, effects, pairs, name)

    def _write(self, job: Job, entry: dict[str, Any], found: Reconstruction, photo: Tensor) -> None:
        from cnnlens.files import write_npz
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        one = job.inverted(entry)
        planes, original = found.image.cpu().numpy(), photo.cpu().numpy()  # (C, H, W)
        save_png(one.original, as_picture(original))
        save_png(one.picture, as_picture(planes))
        if self.asked.raw:
            path = (job.ledger.folder / job.name).with_suffix(".npz")
            write_npz(path, image=found.colours(), input=planes, photo=original)
            entry["raw"] = path.relative_to(job.ledger.folder).as_posix()
        _draw(job, entry)

    def _compare_anew(self) -> None:
        """Hold pictures made before against the images of now, where these are others."""
        from cnnlens.synthesize.reconstruct import held_against

        for part in self.parts:
            todo = {item.name for item in part.todo}
            for job in (item.subject for item in part.items if item.name not in todo):
                entry = part.ledger.entries[job.name]
                if entry.get("mean_distance_of") == self.pairs.mark:
                    continue
                if pairs := self.pairs.distance(job.layer):
                    entry = held_against(entry, pairs, self.pairs.mark)
                    _draw(job, entry)
                    part.ledger.amend(job.name, entry)
                    self.changed = True

    # ---- what was made

    def close(self) -> None:
        """List the pictures of every layer, and show all of them on one sheet."""
        from cnnlens.report.invert_files import SHEET, write_sheet

        self.study.voice.skipped(self.images.skipped)
        super().close()
        if self.changed or not (self.study.folder("invert") / SHEET).exists():
            try:
                write_sheet(self.study.workspace.path)
            except CnnlensError as error:  # another layer's list, which costs the sheet alone
                self.study.voice.note(f"{SHEET} is not drawn: {error.message}")

    def summary(self, part: Part) -> dict[str, Any]:
        """Say how deep the layer lies, and which images could not be read."""
        assert part.layer is not None
        about = {"layer": part.name, "depth": part.layer.depth}
        return {**about, "settings": self.settings.as_dict(), "skipped": self.images.skipped}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the picture's errors."""
        errors = (v if v is None else round(v, 4) for v in entry["errors"].values())
        yield entry["layer"], entry["name"], entry["perturb"], *errors


def _draw(job: Job, entry: dict[str, Any]) -> None:
    """Set the photo, its inversion and the perturbed one side by side."""
    from cnnlens.report.invert_files import save_figure

    one, path = job.inverted(entry), job.ledger.folder / job.name
    clean = job.clean.entry()
    if job.perturb == "none" or clean is None:
        save_figure(path, one)
    else:
        save_figure(path, job.clean.inverted(clean), one)
