"""``cnnlens fool``: how little of a picture has to change until it is taken for something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, GivenImages
from cnnlens.data.picture_names import fitting
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import free_name, mark
from cnnlens.files.ledger import MADE_FROM, Item, image_name, of_images
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.progress import Step
from cnnlens.settings.fool import FoolSettings
from cnnlens.settings.inputs import images_input, layers_input, raw_input
from cnnlens.settings.option import option

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.synthesize.fooled import Fooled


@dataclass(frozen=True)
class FoolInputs(Inputs):
    """Which images, into which classes."""

    image: tuple[Path, ...] = images_input()
    target: tuple[str, ...] = option(
        (),
        "The class to be taken for, by name or number; repeatable.",
        metavar="CLASS",
        shown="any other",
        panel="What",
    )
    noise: bool = option(
        False, "Start from noise, too, and climb to each --target.", off="-", panel="What"
    )
    layer: tuple[str, ...] = layers_input(
        "Show the maps of clean and fooled here, of the units that changed most; repeatable.",
        shown="none",
    )
    raw: bool = raw_input()


@dataclass(frozen=True)
class Job:
    """One picture to be made: of an image (None: noise), to a class (None: any other)."""

    image: GivenImage | None
    target: int | None


class Fool(Pictured):
    """Fool the network: the smallest change of an image that flips its prediction.

    Finds the smallest change (DeepFool, then down to the boundary), and climbs at a low rate until
    the network is sure of the other class; beside it what noise of the same size does. With --noise
    it climbs to a class from noise.
    """

    name, panel = "fool", "Look at images"
    asks, settings_types, uses = FoolInputs, (FoolSettings,), ("device",)
    sections = (("fool", page_part("fool_files.fooled")),)
    columns = ("picture", "from", "to", "L2", "levels of 255", "sure then", "steps")
    part: Part
    probes = (("", "synthesize.fool.probe"),)
    examples = (
        "cnnlens fool model.pt -i photos/ -l conv2 -l conv5",
        "cnnlens fool -i dog.jpg --target cat --noise",
    )

    def resolve(self) -> None:
        """Find images, classes and layers."""
        asked, study = self.asked, self.study
        if asked.noise and not asked.target:
            raise UsageError("noise is to be taken for no class", "name one with --target CLASS")
        ledger = study.ledger("fool")
        wanted = bool(asked.image) or not asked.noise
        self.images = study.given(asked.image, [ledger]) if wanted else GivenImages([])
        self.of_images = self.images.images
        from cnnlens.model.classes import find_class
        from cnnlens.synthesize.answers import Answers

        study.name_classes()
        self.layers = study.layers(asked.layer) if asked.layer else []
        self.answers = Answers(study.model)
        known, count = self.answers.names, self.answers.count
        targets = list(dict.fromkeys(find_class(text, known, count) for text in asked.target))
        aims: list[int | None] = [*targets] or [None]
        jobs = [Job(image, aim) for image in self.images.images for aim in aims]
        jobs += [Job(None, target) for target in targets if asked.noise]
        # by the pictures' names, those of the images
        self._of = {Path(one["file"]).stem: image_name(one) for one, _ in of_images([ledger])}
        self.part = self.add(ledger, [self._item(job) for job in jobs])
        if study.model.has_random_weights:
            study.voice.note("the weights are random: what fools them says little of any network")

    def image_of(self, item: Item) -> GivenImage | None:
        """Give the image that was changed; None of noise."""
        job: Job = item.subject
        return job.image

    def shows(self, entry: Mapping[str, Any]) -> str:
        """Say which image, or noise, was to be taken for which class, whatever that is called."""
        if not isinstance(made_from := entry.get(MADE_FROM), dict):
            return super().shows(entry)
        name = image_name(entry) if made_from.get("image") else None
        return repr((name, made_from.get("target")))

    @cached_property
    def _link(self) -> dict[str, Any]:
        from cnnlens.model.ending import SIGMOID, link_mark

        return link_mark(self.study.model, SIGMOID)

    def _item(self, job: Job) -> Item:
        study, stem = self.study, self._stem(job)
        made_from = study.key(
            start="noise" if job.image is None else "image",
            image=None if job.image is None else job.image.mark,
            target=job.target,
            settings=self._settings(job.image is None).as_dict(),
            places=[layer.place.key for layer in self.layers],
            names=mark(study.model.classes),
            **study.head,
            **self._link,
        )
        return Item(f"{stem}.png", made_from, subject=job, raw=self.asked.raw)

    def _stem(self, job: Job) -> str:
        """Name a picture: NAME, NAME--CLASS or noise/CLASS; not as another image's is named."""
        names, target = self.answers.names, job.target
        to = "" if target is None else f"{target}-{_plain(names[target])}"
        if job.image is None:
            return fitting(f"noise/{to}")
        name = job.image.name
        return free_name(
            fitting(f"{name}--{to}" if to else name),
            lambda stem: self._of.setdefault(stem, name) != name,
        )

    def _settings(self, from_noise: bool) -> FoolSettings:
        """The settings with what they leave open filled in."""
        s: FoolSettings = self.settings
        return replace(s, lr=s.rate(from_noise), confidence=s.until(from_noise))

    def plan(self) -> str:
        """Say how many pictures are to be changed."""
        return self.to_make()

    def work(self) -> Iterator[Step]:
        """Change one image after the other."""
        todo: dict[GivenImage | None, list[Item]] = {}
        for item in self.part.todo:
            todo.setdefault(item.subject.image, []).append(item)
        total, done = len(self.part.todo), 0
        yield Step(0, total, "fooling", unit="pictures")
        for image, start in self._starts(todo):
            for item in todo[image]:
                begun = start if image is not None else self._noise(item.subject.target)
                try:
                    self._make(item, begun)
                except CnnlensError as error:  # the other pictures are made all the same
                    self.failed.append(error)
                done += 1
                yield Step(done, total, "fooling", unit="pictures")
        if self.failed and not self.part.ledger.entries:
            raise self.failed.pop(0)

    def _starts(self, todo: dict[GivenImage | None, list[Item]]) -> Iterator[tuple[Any, Any]]:
        import torch

        from cnnlens.synthesize.invert import input_plane

        model = self.study.model
        given = [image for image in todo if image is not None]
        for image, pixels in self.images.read(model.preprocess, given):
            yield image, input_plane(model, torch.from_numpy(pixels))
        if None in todo:
            yield None, None

    def _noise(self, target: int) -> Tensor:
        from cnnlens.synthesize.fool import noise

        return noise(self.answers, self.settings.seed, f"start {target}")

    def _make(self, item: Item, start: Tensor) -> None:
        from cnnlens.files import write_npz
        from cnnlens.report.fool_files import said_of
        from cnnlens.report.sheet import save_png
        from cnnlens.synthesize.fooled import fool

        job: Job = item.subject
        settings = self._settings(job.image is None)
        found = fool(self.answers, start, job.target, job.image is None, settings)
        maps = found.maps(self.layers, settings.maps)
        shown = "noise" if job.image is None else job.image.shown
        about = {"file": item.name, "image": shown, **found.as_dict(), "layers": _told(maps)}
        entry = about if job.image is None else {"name": job.image.name, **about}
        title = "noise" if job.image is None else job.image.path.name
        self.part.ledger.begin(item)
        save_png(self.part.file(item), _drawn(found, title, said_of(entry), maps))
        if self.asked.raw:
            write_npz(self.part.file(item, ".npz"), **found.arrays())
        self.part.ledger.keep(item, entry)
        if entry["l2"] is None:
            self.study.voice.note(f"{shown}: no change that fools was found; try more --steps")

    def close(self) -> None:
        """List the pictures, draw the curves; say which images could not be read."""
        self.study.voice.skipped(self.images.skipped)
        super().close()

    def summary(self, part: Part) -> dict[str, Any]:
        """Say how many images flip by what, and draw it."""
        from math import prod

        from cnnlens.report.fool_curves import curves, save_curve

        preprocess = self.study.model.preprocess
        found = curves(part.ledger.entries.values(), [item.name for item in part.there])
        for name, curve in found.items():
            if curve["l2"]:
                values = preprocess.channels * prod(preprocess.size)
                save_curve(part.ledger.folder / name, curve, values)
        about = {"settings": self.settings.as_dict(), "skipped": self.images.skipped}
        return {**about, "curves": found}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the change and what came of it."""
        numbers = (entry["l2"], entry["levels"], entry["confidence"])
        said = (None if value is None else float(f"{value:.4g}") for value in numbers)
        yield entry["file"], entry["from"], entry["to"], *said, entry["steps"]


def _plain(name: str) -> str:
    from cnnlens.report.contents import file_names

    return file_names([name])[name].replace(" ", "_")[:40]


def _told(maps: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            "change": one.share,
            "units": [{"unit": u, "change": c} for u, c in zip(one.units, one.shares, strict=True)],
        }
        for name, one in maps
    }


def _drawn(found: Fooled, title: str, note: str, maps: Sequence[tuple[str, Any]]) -> Any:
    from dataclasses import asdict

    from cnnlens.report.fool_files import draw, tiles

    layers = [{"name": name, **asdict(one)} for name, one in maps]
    return draw(title, note, tiles(found.arrays(), found.as_dict()), layers)
