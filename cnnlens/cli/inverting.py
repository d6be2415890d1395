"""One run of invert: which pictures are missing, making them, and the files they are kept in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.given import GivenImage, given_images
from cnnlens.cli.made import Made
from cnnlens.cli.pairs import KINDS, Pairs
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import CnnlensError
from cnnlens.settings import InvertSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.layers import Layer
    from cnnlens.report.inversion import Inverted


@dataclass(frozen=True)
class Photo:
    """A given image as the network sees it, (C, H, W) in [0, 1]."""

    given: GivenImage
    plane: Tensor


@dataclass(frozen=True)
class Job:
    """One picture to be made."""

    layer: Layer
    photo: Photo
    perturb: str
    made: Made

    @property
    def file(self) -> str:
        """Below the layer's folder."""
        name = f"{self.photo.given.name}.png"
        return name if self.perturb == "none" else f"{self.perturb}/{name}"


class Work:
    """One run of invert, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: InvertSettings,
        batch_size: int,
        raw: bool,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.raw, self.force = settings, raw, force
        self.batch_size = batch_size
        self.failed: list[CnnlensError] = []
        self.skipped: list[dict[str, str]] = []
        self.new = 0

    def run(self, names: list[str] | None, images: list[Path], data: Path | None) -> dict[str, Any]:
        """Make the pictures that are not there yet; return every layer's JSON."""
        self.model, opened_by = open_model(self.options, self.space, self.screen)
        layers = find_layers(self.model, names, self.space, vectors=True)
        given_images(images)  # a missing one is an error before anything is touched
        found = open_images(data, self.space, KINDS) if data else None
        self.space.use_model(self.model, opened_by, self.force)
        if found:
            self.space.use_data(found)
        layers = [self.space.use_layer(one) for one in layers]
        made = [Made(self._folder(one) / "invert.json", self.force) for one in layers]
        photos = self._photos(given_images(images, _taken(made)))
        self.space.save(command_line())
        jobs = [
            Job(layer, photo, perturb, there)
            for layer, there in zip(layers, made, strict=True)
            for photo in photos
            for perturb in dict.fromkeys(("none", self.settings.perturb))
        ]
        self._do(jobs, photos)
        return {
            layer.name: there.write(self._summary(layer))
            for layer, there in zip(layers, made, strict=True)
        }

    def finish(self, page: bool) -> None:
        """Draw what shows all pictures together."""
        from cnnlens.report.inverted import SHEET, write_sheet

        if self.new or not (self.space.path / "invert" / SHEET).exists():
            write_sheet(self.space.path)
        if page:
            from cnnlens.report.page import write_report

            write_report(self.space.path)

    def _folder(self, layer: Layer) -> Path:
        return self.space.results("invert", layer)

    def _photos(self, given: list[GivenImage]) -> list[Photo]:
        import torch

        from cnnlens.data.decode import DamagedImage
        from cnnlens.synthesize.invert import input_plane

        photos = []
        for one in given:
            try:
                pixels = torch.tensor(one.pixels(self.model.preprocess))
            except DamagedImage as damage:
                self.skipped.append({"image": str(one.path), "reason": damage.reason})
                continue
            photos.append(Photo(one, input_plane(self.model, pixels)))
        if not photos:
            bad = self.skipped[0]
            raise CnnlensError(
                f"{bad['image']} cannot be read: {bad['reason']}", "name another with -i"
            )
        self.screen.skipped(self.skipped)
        return photos

    def _summary(self, layer: Layer) -> dict[str, Any]:
        return {
            "layer": layer.name,
            "depth": layer.depth,
            "settings": self.settings.as_dict(),
            "skipped": self.skipped,
        }

    def _made_from(self, job: Job) -> dict[str, Any]:
        preprocess = {k: v for k, v in self.model.preprocess.as_dict().items() if k != "source"}
        return {
            "model": self.model.fingerprint,
            "preprocess": preprocess,
            "place": job.layer.place.key,
            "settings": replace(self.settings, perturb=job.perturb).as_dict(),
            "image": job.photo.given.mark,
        }

    def _is_finished(self, job: Job) -> bool:
        from cnnlens.report.inversion import original_file, picture_file

        folder, name = self._folder(job.layer), job.photo.given.name
        beside = [original_file(folder, name), picture_file(folder, name, job.perturb)]
        if self.raw:
            beside.append((folder / job.file).with_suffix(".npz"))
        others = [path.relative_to(folder).as_posix() for path in beside]
        return job.made.finished(job.file, self._made_from(job), *others)

    # ---- the pictures

    def _do(self, jobs: list[Job], photos: list[Photo]) -> None:
        done: list[Job] = []
        todo: list[Job] = []
        for job in jobs:
            (done if self._is_finished(job) else todo).append(job)
        if done:
            pictures = "picture was" if len(done) == 1 else "pictures were"
            self.screen.note(
                f"{len(done)} {pictures} made before with these settings (--force redoes them)"
            )
        self._pairs = Pairs(
            self.model, self.space, [photo.given for photo in photos], self.batch_size
        )
        for job in done:
            self._compare_anew(job)
        with self.screen.progress() as bars:
            for number, job in enumerate(todo):
                try:
                    self._make(job, number, len(todo), bars)
                    self.new += 1
                except CnnlensError as error:  # the other pictures are made all the same
                    self.failed.append(error)
        if self.failed and not self.new:
            raise self.failed[0]

    def _make(self, job: Job, number: int, total: int, bars: Any) -> None:
        from cnnlens.synthesize.invert import check_target, compare, features, invert, length

        layer, photo, name = job.layer, job.photo.plane, job.photo.given.name
        answer = features(self.model, layer, photo)
        check_target(answer, layer.name, str(job.photo.given.path))
        target = self._perturbed(job, answer)
        errors, objectives = [], []
        steps = self.settings.steps
        for step in invert(self.model, layer, target, photo, self.settings):
            errors.append(step.error)
            objectives.append(step.objective)
            done = number * steps + step.number
            bars.show("inverting", done, total * steps, f"error {step.error:.3f}")
        image = step.image()
        pairs = self._pairs.distance(layer)
        found = compare(self.model, layer, image, photo, answer, pairs)
        entry = {
            "file": job.file,
            "layer": layer.name,
            "image": str(job.photo.given.path),
            "name": name,
            "perturb": job.perturb,
            "initial": errors[0],
            "final": errors[-1],
            "errors": {"features": found.features, "pairs": found.pairs, "pixels": found.pixels},
            "norm": length(answer),
            "mean_distance": pairs,
            "mean_distance_of": self._pairs.mark,
            "trace": errors,
            "objective": objectives,
            "effects": _effects(answer, features(self.model, layer, image)),
            "path": str(job.photo.given.path.resolve()),
            "made_from": self._made_from(job),
        }
        self._write(job, entry, image)
        job.made.add(entry, self._summary(layer))

    def _perturbed(self, job: Job, answer: Tensor) -> Tensor:
        import torch

        from cnnlens.synthesize import perturb

        if job.perturb == "binarize":
            return perturb.binarize(answer)
        if job.perturb == "dropout":
            generator = torch.Generator().manual_seed(self.settings.seed)
            return perturb.dropout(answer, generator)
        if job.perturb == "drop-least":
            clean = self._clean(job)
            if clean is None:
                raise CnnlensError(f"{job.photo.given.path} was not inverted at {job.layer.name}")
            return perturb.drop_least(answer, torch.tensor(clean["effects"]))
        return answer

    def _clean(self, job: Job) -> dict[str, Any] | None:
        """What the JSON says of the inversion without perturbation."""
        file = replace(job, perturb="none").file
        return next((entry for entry in job.made.entries if entry["file"] == file), None)

    def _write(self, job: Job, entry: dict[str, Any], image: Tensor) -> None:
        from cnnlens.report.optimized import as_picture, save_png

        one = self._inverted(job, entry)
        save_png(one.original, as_picture(job.photo.plane.cpu().numpy()))
        save_png(one.picture, as_picture(image.cpu().numpy()))
        if self.raw:
            path = one.folder / job.file
            _write_raw(path.with_suffix(".npz"), image, job.photo.plane)
        self._draw(job, entry)

    def _inverted(self, job: Job, entry: dict[str, Any]) -> Inverted:
        from cnnlens.report.inversion import Inverted

        folder, name = self._folder(job.layer), job.photo.given.name
        return Inverted(job.layer.name, name, job.perturb, folder, entry)

    def _draw(self, job: Job, entry: dict[str, Any]) -> None:
        """Set the photo, its inversion and the perturbed one side by side."""
        from cnnlens.report.inverted import save_figure

        one, clean = self._inverted(job, entry), self._clean(job)
        path = self._folder(job.layer) / job.file
        if job.perturb == "none" or clean is None:
            save_figure(path, one)
        else:
            save_figure(path, self._inverted(replace(job, perturb="none"), clean), one)

    def _compare_anew(self, job: Job) -> None:
        """Hold a picture made before against the images of now, where these are others."""
        entry = next(entry for entry in job.made.entries if entry["file"] == job.file)
        if entry["mean_distance_of"] == self._pairs.mark:
            return
        pairs = self._pairs.distance(job.layer)
        if pairs is None:
            return
        entry["errors"]["pairs"] = entry["errors"]["features"] * entry["norm"] / pairs
        entry |= {"mean_distance": pairs, "mean_distance_of": self._pairs.mark}
        self._draw(job, entry)
        job.made.add(entry, self._summary(job.layer))
        self.new += 1


def _taken(made: list[Made]) -> dict[str, str]:
    """Names that pictures of earlier runs have, and the images they show."""
    return {
        entry["name"]: entry["path"]
        for there in made
        for entry in there.entries
        if isinstance(entry.get("name"), str) and isinstance(entry.get("path"), str)
    }


def _effects(answer: Tensor, reconstructed: Tensor) -> list[float]:
    from cnnlens.synthesize.perturb import effects

    return [float(effect) for effect in effects(answer, reconstructed).cpu()]


def _write_raw(path: Path, image: Tensor, photo: Tensor) -> None:
    """Write the picture in colours, and what the network was given, channel by channel."""
    import numpy as np

    from cnnlens.files import write_npz

    planes = image.cpu().numpy().astype(np.float32)  # (C, H, W)
    write_npz(path, image=as_rgb(planes), input=planes, photo=photo.cpu().numpy())


def as_rgb(planes: Any) -> Any:
    """(C, H, W) as 3×H×W: groups of three channels are averaged, greys repeated."""
    import numpy as np

    if len(planes) % 3:
        return np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
    return planes.reshape(-1, 3, *planes.shape[1:]).mean(0)
