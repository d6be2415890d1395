"""``cnnlens invert``: what layers still know of a photo."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError
from cnnlens.methods.method import (
    Inputs,
    Method,
    Results,
    data_input,
    images_input,
    layers_input,
    raw_input,
)
from cnnlens.progress import Step
from cnnlens.settings.synthesize import InvertSettings
from cnnlens.study.images import GivenImage, given_images
from cnnlens.study.ledger import Item
from cnnlens.study.pairs import Pairs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model
    from cnnlens.report.blocks import Section
    from cnnlens.report.invert_files import Inverted
    from cnnlens.synthesize.reconstruct import Reconstruction

_ROWS = 40  # of the table


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
    """One picture to be made."""

    layer: Layer
    image: GivenImage
    perturb: str

    @property
    def file(self) -> str:
        """Below the layer's folder."""
        name = f"{self.image.name}.png"
        return name if self.perturb == "none" else f"{self.perturb}/{name}"


def inversions(workspace: Path) -> Section | None:
    """Gather the page's part about inversion."""
    from cnnlens.report.sections import inversions as gather

    return gather(workspace)


class Invert(Method):
    """Invert layers: what is left of a photo in their activations.

    Searches for the picture that a layer answers as it answered the photo; what the picture lacks,
    the layer has forgotten.
    """

    name, panel = "invert", "Look at images"
    asks, settings_types, uses = InvertInputs, (InvertSettings,), ("device", "batch_size")
    sections = (("invert", inversions),)
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
        self.layers = study.layers(self.asked.layer, vectors=True)
        self.ledgers = {layer: study.ledger("invert", layer) for layer in self.layers}
        self.images = study.given(self.asked.image, list(self.ledgers.values()))
        kinds = list(dict.fromkeys(("none", self.settings.perturb)))
        self.items = {
            layer: [self._item(Job(layer, image, k)) for image in self.images.images for k in kinds]
            for layer in self.layers
        }
        self.pairs = Pairs(study, self.images.images)
        self.changed = False

    def _item(self, job: Job) -> Item:
        from cnnlens.report.invert_files import original_file, picture_file

        settings = replace(self.settings, perturb=job.perturb).as_dict()
        made_from = self.study.key(job.layer, settings=settings, image=job.image.mark)
        folder, name = self.ledgers[job.layer].folder, job.image.name
        beside = [original_file(folder, name), picture_file(folder, name, job.perturb)]
        if self.asked.raw:
            beside.append((folder / job.file).with_suffix(".npz"))
        files = tuple(path.relative_to(folder).as_posix() for path in beside)
        return Item(job.file, made_from, files, job)

    def plan(self) -> str:
        """Say how many pictures are to be searched for."""
        todo = [
            item.subject
            for layer, items in self.items.items()
            for item in self.ledgers[layer].missing(items)
        ]
        photos, layers, kinds = (
            len({part(job) for job in todo})
            for part in (lambda j: j.image, lambda j: j.layer, lambda j: j.perturb)
        )
        if not todo:
            return ""
        words = f"{_count(photos, 'photo')} × {_count(layers, 'layer')}"
        if kinds > 1:
            words += f", whole and perturbed ({self.settings.perturb})"
        if len(todo) < photos * layers * kinds:
            words = f"{_count(len(todo), 'picture')} of {_count(photos, 'photo')}"
        return f"{words}, {self.settings.steps} steps each"

    # ---- the pictures

    def work(self) -> Iterator[Step]:
        """Search for one picture per image, layer and perturbation."""
        todo = self._todo()
        model, total, done = self.study.model, sum(map(len, todo.values())), 0
        for image, pixels in self.images.read(model.preprocess, todo):
            photo = _plane(model, pixels)
            for item in todo[image]:
                try:
                    yield from self._make(item, photo, done, total)
                except CnnlensError as error:  # the other pictures are made all the same
                    self.failed.append(error)
                done += 1
                yield Step(done, total, "inverting", unit="pictures")
        if self.failed and not any(ledger.entries for ledger in self.ledgers.values()):
            raise self.failed.pop(0)

    def _todo(self) -> dict[GivenImage, list[Item]]:
        """List what is missing, by image; hold what is there against the images of now."""
        todo: dict[GivenImage, list[Item]] = {}
        for layer, items in self.items.items():
            where = layer.name if len(self.layers) > 1 else ""
            missing = self.missing(self.ledgers[layer], items, where=where)
            for item in items:
                if item in missing:
                    todo.setdefault(item.subject.image, []).append(item)
                else:
                    self._compare_anew(item.subject)
        return todo

    def _make(self, item: Item, photo: Tensor, done: int, total: int) -> Iterator[Step]:
        job: Job = item.subject
        pairs = self.pairs.distance(job.layer)
        found = yield from self._search(job, photo, pairs, done, total)
        entry = {
            "file": job.file,
            "layer": job.layer.name,
            "image": job.image.shown,
            "name": job.image.name,
            "perturb": job.perturb,
            "initial": found.trace[0],
            "final": found.trace[-1],
            "errors": asdict(found.errors),
            "norm": found.norm,
            "mean_distance": pairs,
            "mean_distance_of": self.pairs.mark,
            "trace": found.trace,
            "objective": found.objective,
            "effects": found.effects.tolist(),
        }
        self._write(job, entry, found.image, photo)
        self.ledgers[job.layer].keep(item, entry)
        self.changed = True

    def _search(
        self, job: Job, photo: Tensor, pairs: float | None, done: int, total: int
    ) -> Generator[Step, None, Reconstruction]:
        import torch

        from cnnlens.synthesize.reconstruct import reconstruct

        settings, effects = replace(self.settings, perturb=job.perturb), None
        if job.perturb == "drop-least":
            if (clean := self._clean(job)) is None:
                raise CnnlensError(f"{job.image.path} was not inverted at {job.layer.name}")
            effects = torch.tensor(clean["effects"])
        name = str(job.image.path)
        search = reconstruct(self.study.model, job.layer, photo, settings, effects, pairs, name)
        while True:
            try:
                step = next(search)
            except StopIteration as end:
                return end.value
            note = f"step {step.done} of {step.total}, {step.note}"
            yield Step(done, total, "inverting", note=note, unit="pictures")

    def _clean(self, job: Job) -> dict[str, Any] | None:
        """What is known of the inversion without perturbation."""
        return self.ledgers[job.layer].entries.get(replace(job, perturb="none").file)

    def _write(self, job: Job, entry: dict[str, Any], image: Tensor, photo: Tensor) -> None:
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        one = self._inverted(job, entry)
        save_png(one.original, as_picture(photo.cpu().numpy()))
        save_png(one.picture, as_picture(image.cpu().numpy()))
        if self.asked.raw:
            _write_raw((one.folder / job.file).with_suffix(".npz"), image, photo)
        self._draw(job, entry)

    def _inverted(self, job: Job, entry: dict[str, Any]) -> Inverted:
        from cnnlens.report.invert_files import Inverted

        folder = self.ledgers[job.layer].folder
        return Inverted(job.layer.name, job.image.name, job.perturb, folder, entry)

    def _draw(self, job: Job, entry: dict[str, Any]) -> None:
        """Set the photo, its inversion and the perturbed one side by side."""
        from cnnlens.report.figures.invert import save_figure

        one, clean = self._inverted(job, entry), self._clean(job)
        path = one.folder / job.file
        if job.perturb == "none" or clean is None:
            save_figure(path, one)
        else:
            save_figure(path, self._inverted(replace(job, perturb="none"), clean), one)

    def _compare_anew(self, job: Job) -> None:
        """Hold a picture made before against the images of now, where these are others."""
        ledger = self.ledgers[job.layer]
        entry = ledger.entries[job.file]
        if entry.get("mean_distance_of") == self.pairs.mark:
            return
        if (pairs := self.pairs.distance(job.layer)) is None:
            return
        errors = {**entry["errors"], "pairs": entry["errors"]["features"] * entry["norm"] / pairs}
        now = {"errors": errors, "mean_distance": pairs, "mean_distance_of": self.pairs.mark}
        self._draw(job, {**entry, **now})
        ledger.amend(job.file, {**entry, **now})
        self.changed = True

    # ---- what was made

    def close(self) -> None:
        """List the pictures of every layer, and show all of them on one sheet."""
        from cnnlens.report.figures.invert import SHEET, write_sheet

        self.study.voice.skipped(self.images.skipped)
        for layer, ledger in self.ledgers.items():
            if ledger.entries:
                about = {"layer": layer.name, "depth": layer.depth}
                about |= {"settings": self.settings.as_dict(), "skipped": self.images.skipped}
                self.summaries[layer.name] = ledger.close(about)
        if self.changed or not (self.study.folder("invert") / SHEET).exists():
            try:
                write_sheet(self.study.workspace.path)
            except CnnlensError as error:  # another layer's list, which costs the sheet alone
                self.study.voice.note(f"{SHEET} is not drawn: {error.message}")

    def show(self, results: Results) -> None:
        """Show the errors of every picture."""
        rows = [
            (
                name,
                entry["name"],
                entry["perturb"],
                *(v if v is None else round(v, 4) for v in entry["errors"].values()),
            )
            for name, summary in self.summaries.items()
            for entry in summary["pictures"]
        ]
        results.table(
            ["layer", "image", "perturbed", "feature error", "of mean distance", "pixel RMSE"],
            rows[:_ROWS],
            title="inversions",
        )
        if len(rows) > _ROWS:
            results.say(f"… and {len(rows) - _ROWS} more in invert.json")
        results.say(f"pictures: {self.study.folder('invert')}")

    def result(self) -> Any:
        """Return the pictures that were asked for, of one layer or by layer."""
        found = {
            layer.name: self.pictures(ledger, self.items[layer])
            for layer, ledger in self.ledgers.items()
        }
        return found if len(self.asked.layer) > 1 else next(iter(found.values()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _plane(model: Model, pixels: np.ndarray) -> Tensor:
    import torch

    from cnnlens.synthesize.invert import input_plane

    return input_plane(model, torch.from_numpy(pixels))


def _write_raw(path: Path, image: Tensor, photo: Tensor) -> None:
    """Write the picture in colours, and what the network was given, channel by channel."""
    import numpy as np

    from cnnlens.files import write_npz

    planes = image.cpu().numpy().astype(np.float32)  # (C, H, W)
    if len(planes) % 3:
        rgb = np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
    else:  # groups of three channels are averaged
        rgb = planes.reshape(-1, 3, *planes.shape[1:]).mean(0)
    write_npz(path, image=rgb, input=planes, photo=photo.cpu().numpy())
