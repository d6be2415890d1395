"""``cnnlens invert``: what layers still know of a photo."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, given_images
from cnnlens.errors import CnnlensError, counted
from cnnlens.files.ledger import Item
from cnnlens.files.locks import alone_in
from cnnlens.methods.inversions import Job, pairs_of
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.methods.upconv import Upconvs
from cnnlens.progress import Step, relayed
from cnnlens.settings.inputs import data_input, images_input, layers_input, raw_input
from cnnlens.settings.invert import InvertSettings, UpconvSettings

if TYPE_CHECKING:
    from torch import Tensor

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


class Invert(Pictured):
    """Invert layers: what is left of a photo in their activations.

    Searches for the picture that a layer answers as it answered the photo; what the picture lacks,
    the layer has forgotten. With --method upconv a network that was trained on -d to give images
    from the layer's answers makes the picture: it is trained once per layer, resumed when it was
    interrupted, kept as WORKSPACE/invert/LAYER/upconv.pt, and serves every later image.
    """

    name, panel = "invert", "Look at images"
    asks, settings_types = InvertInputs, (InvertSettings, UpconvSettings)
    uses, vectors = ("device", "batch_size", "workers"), True
    sections = (("invert", page_part("inverted.inversions")),)
    columns = ("layer", "image", "method", "perturbed", "feature error", "of mean distance",
               "pixel RMSE", "mean image's")  # fmt: skip
    probes = (("", "attribution.deconv.probe_gradient"),)
    examples = (
        "cnnlens invert model.pt -l conv1 -l conv3 -l conv5 -i dog.jpg",
        "cnnlens invert -l conv5 -i photos/ --perturb binarize",
        "cnnlens invert -l conv5 -i dog.jpg --method upconv -d train/",
    )

    def resolve(self) -> None:
        """Find images, data and layers; see what is there already."""
        study = self.study
        given_images([Path(path) for path in self.asked.image])  # a missing one is an error first
        layers = study.layers(self.asked.layer, self.vectors)
        self.upconvs = Upconvs(study, self._training(), self.asked.data)
        if self.settings.method == "upconv":
            for layer in layers:
                self.upconvs.add(layer)
        elif self.asked.data is not None:
            study.images(self.asked.data)
        ledgers = [study.ledger("invert", layer) for layer in layers]
        self.images = study.given(self.asked.image, ledgers)
        self.of_images, self.changed = self.images.images, False
        kinds, how = dict.fromkeys(("none", self.settings.perturb)), self.settings.method
        for layer, ledger in zip(layers, ledgers, strict=True):
            jobs = [Job(layer, ledger, one, how, k) for one in self.images.images for k in kinds]
            self.add(ledger, [self._item(job) for job in jobs], layer)

    def image_of(self, item: Item) -> GivenImage:
        """Give the image that was inverted."""
        job: Job = item.subject
        return job.image

    def _training(self) -> UpconvSettings:
        """Settings of a training, which the search has none of."""
        found = [s for s in self.all_settings if isinstance(s, UpconvSettings)]
        training = found[0] if found else UpconvSettings()
        training.check_used(self.settings.method)
        return training

    def _item(self, job: Job) -> Item:
        from cnnlens.synthesize.invert import SEARCH

        settings = replace(self.settings, perturb=job.perturb, lr=self.settings.rate)
        image = job.image.mark
        if job.method == "upconv":
            asked = {k: getattr(settings, k) for k in ("method", "perturb", "seed")}
            network = self.upconvs.of(job.layer).mark
            made_from = self.study.key(job.layer, settings=asked, image=image, network=network)
        else:
            asked = settings.as_dict()
            made_from = self.study.key(job.layer, settings=asked, image=image, search=SEARCH)
        return job.item(made_from, self.asked.raw)

    def plan(self) -> str:
        """Say what is to be trained, and how many pictures are to be searched for."""
        todo: list[Job] = [item.subject for part in self.parts for item in part.todo]
        if not todo or self.settings.method == "upconv":
            return self.upconvs.plan()
        photos, layers, kinds = (
            len(set(these))
            for these in zip(*((job.image, job.layer, job.perturb) for job in todo), strict=True)
        )
        words = f"{counted(photos, 'photo')} × {counted(layers, 'layer')}"
        if kinds > 1:
            words += f", whole and perturbed ({self.settings.perturb})"
        if len(todo) < photos * layers * kinds:
            words = f"{counted(len(todo), 'picture')} of {counted(photos, 'photo')}"
        return f"{words}, {counted(self.settings.steps, 'step')} each"

    # ---- the pictures

    def work(self) -> Iterator[Step]:
        """Make one picture per image, layer and perturbation; each image is read once."""
        import torch

        from cnnlens.synthesize.invert import input_plane
        from cnnlens.synthesize.reconstruct import Pairs

        yield from self.upconvs.train()
        self.failed += self.upconvs.lost.values()
        examples = self.study.examples(self.images.images)
        self.pairs = Pairs(self.study.model, examples, self.study.run.batch_size)
        self._compare_anew()
        todo: dict[GivenImage, list[Item]] = {}
        for item in (item for part in self.parts for item in part.todo if self._can(part)):
            todo.setdefault(item.subject.image, []).append(item)
        if todo or self.changed:
            self.study.voice.note(f"errors are held against {pairs_of(examples)}")
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
        learned = job.method == "upconv" and self.upconvs.of(job.layer).has_learned(job.image)
        job.ledger.begin(item)
        entry = job.write(found, photo, self.pairs.mark, self.asked.raw, learned)
        if learned:
            self.study.voice.note(
                f"{job.image.shown} is one of the images that the network learned from: its errors "
                "flatter"
            )
        job.ledger.keep(item, entry)
        self.changed = True

    def _search(self, job: Job, photo: Tensor) -> Generator[Step, None, Reconstruction]:
        import torch

        from cnnlens.synthesize.reconstruct import generate, reconstruct

        settings, effects = replace(self.settings, perturb=job.perturb), None
        if job.perturb == "drop-least":
            if (clean := job.clean.entry()) is None:
                raise CnnlensError(f"{job.image.path} was not inverted at {job.layer.name}")
            effects = torch.tensor(clean["effects"])
        pairs, name = self.pairs.distance(job.layer), str(job.image.path)
        more = (settings, effects, pairs, name)
        if job.method == "upconv":
            net = self.upconvs.of(job.layer).net
            return generate(self.study.model, job.layer, photo, net, *more)
        return (yield from reconstruct(self.study.model, job.layer, photo, *more))

    def _can(self, part: Part) -> bool:
        """Whether a layer's pictures can be made: no training has failed."""
        return self.settings.method != "upconv" or all(
            self.upconvs.of(i.subject.layer).content for i in part.items
        )

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
                    job.draw(entry)
                    part.ledger.amend(job.name, entry)
                    self.changed = True

    # ---- what was made

    def close(self) -> None:
        """List the pictures of every layer, and show all of them on one sheet."""
        from cnnlens.report.invert_files import SHEET, write_sheet

        self.study.voice.skipped(self.images.skipped)
        super().close()
        folder = self.study.folder("invert")
        if folder.is_dir() and (self.changed or not (folder / SHEET).exists()):
            try:
                with alone_in(folder):  # another process lays out its own pictures, too
                    write_sheet(self.study.workspace.path)
            except CnnlensError as error:  # another layer's list, which costs the sheet alone
                self.study.voice.note(f"{SHEET} is not drawn: {error.message}")

    def summary(self, part: Part) -> dict[str, Any]:
        """Say how deep the layer lies, and which images could not be read."""
        assert part.layer is not None
        trained = part.ledger.summary.get("upconv")
        if self.settings.method == "upconv" and (one := self.upconvs.of(part.layer)).content:
            trained = one.content["about"]
        about = {"layer": part.name, "depth": part.layer.depth}
        more = {"upconv": trained} if trained else {}
        settings = {**self.settings.as_dict(), "lr": self.settings.rate}
        return {**about, "settings": settings, **more, "skipped": self.images.skipped}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the picture's errors."""
        method = entry.get("method", "regularized")  # as of versions that knew no other
        found = [*entry["errors"].values(), entry.get("mean_image", {}).get("pixels")]
        errors = (v if v is None else round(v, 4) for v in found)
        yield entry["layer"], entry["name"], method, entry["perturb"], *errors
