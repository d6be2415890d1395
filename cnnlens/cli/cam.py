"""``cnnlens cam``: where on a photo a class was seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.given import GivenImage, ImagesOption, given_images
from cnnlens.cli.made import Made
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, open_model
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.settings import CamSettings, RunSettings
from cnnlens.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.cam import ClassMaps, Found

D = CamSettings()


def cam(
    model: o.ModelArgument = None,
    image: ImagesOption = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="cam|gradcam",
            help="cam: the class weights on the maps that they act on, where the network has such "
            "a head. gradcam: the gradient's mean on any layer's maps.",
        ),
    ] = D.method,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="A class, by name or number; repeatable. Default: the predicted one.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="Classes per image, by score, where none is named.")
    ] = D.top,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="Where to look. Default: the maps that the class weights act on (cam); the maps "
            "that enter the global pooling, else last (gradcam).",
            show_default=False,
        ),
    ] = None,
    raw: o.RawOption = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Class activation maps: where on an image the network saw its class, or any class."""
    settings = CamSettings(method, top)
    if not image:
        raise UsageError("no images were named", "name some with -i IMAGE")
    screen, space = Screen(json, quiet), Workspace(workspace, force)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    run = RunSettings(device=device, batch_size=batch_size)
    work = Work(screen, space, options, settings, run, raw, force)
    summary = work.run(image, classes, layer)
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    screen.document(summary)
    _show(screen, space, work.names, summary, page)


class Work:
    """One run of cam, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: CamSettings,
        run: RunSettings,
        raw: bool,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.raw, self.force = settings, run, raw, force
        self.names: list[str] = []

    def run(self, paths: list[Path], classes: list[str] | None, layer: str | None) -> Any:
        """Make the pictures that are not there yet; return the JSON."""
        from cnnlens.attribution.cam import ClassMaps
        from cnnlens.model.classes import find_class

        given_images(paths)  # a missing one is an error before anything is touched
        self.model, opened_by = open_model(self.options, self.space, self.screen)
        self.seen: ClassMaps = ClassMaps(self.model, self.settings.method, layer)
        self.classes = (
            [find_class(text, self.model.classes, self.seen.count) for text in classes]
            if classes
            else None
        )
        self.space.use_model(self.model, opened_by, self.force)
        self.space.save(command_line())
        made = Made(self.space.path / "cam" / "cam.json", self.force)
        images = given_images(paths, _taken(made))
        self.names = [f"{image.name}.png" for image in images]
        todo = [image for image in images if not self._is_finished(image, made)]
        if done := len(images) - len(todo):
            pictures = "picture was" if done == 1 else "pictures were"
            self.screen.note(
                f"{done} {pictures} made before with these settings (--force redoes them)"
            )
        return self._make(todo, made, len(images))

    def _make(self, todo: list[GivenImage], made: Made, total: int) -> Any:
        skipped: list[dict[str, str]] = []
        with self.screen.progress() as bars:
            bars.show("class maps", 0, len(todo))
            for number, (image, pixels) in enumerate(self._read(todo, skipped)):
                found = self._look(pixels)
                made.add(self._picture(image, pixels, found), self._summary(skipped))
                bars.show("class maps", number + 1, len(todo))
        self.screen.skipped(skipped)
        if skipped and len(skipped) == total:
            bad = skipped[0]
            raise CnnlensError(
                f"{bad['image']} cannot be read: {bad['reason']}", "name another image with -i"
            )
        return made.write(self._summary(skipped))

    def _read(
        self, todo: list[GivenImage], skipped: list[dict[str, str]]
    ) -> Iterator[tuple[GivenImage, np.ndarray]]:
        from cnnlens.data.images import DamagedImage

        for image in todo:
            try:
                yield image, image.pixels(self.model.preprocess)
            except DamagedImage as damage:
                skipped.append({"image": str(image.path), "reason": damage.reason})

    def _look(self, pixels: np.ndarray) -> Found:
        """Run the network on one image; a fixed batch is filled up with it."""
        import torch

        rows = torch.from_numpy(pixels)[None].repeat(self.model.batch or 1, 1, 1, 1)
        x = self.model.preprocess.normalize(rows.to(self.model.device))
        return self.seen(x, self.classes, min(self.settings.top, self.seen.count))

    def _made_from(self, image: GivenImage) -> dict[str, Any]:
        preprocess = {k: v for k, v in self.model.preprocess.as_dict().items() if k != "source"}
        return {
            "model": self.model.fingerprint,
            "preprocess": preprocess,
            "method": self.settings.method,
            "place": self.seen.place.key,
            "classes": self.classes if self.classes is not None else f"top {self.settings.top}",
            "image": image.mark,
        }

    def _is_finished(self, image: GivenImage, made: Made) -> bool:
        others = [f"{image.name}.npz"] if self.raw else []
        return made.finished(f"{image.name}.png", self._made_from(image), *others)

    def _summary(self, skipped: list[dict[str, str]]) -> dict[str, Any]:
        settings = {**self.settings.as_dict(), "layer": self.seen.layer, "classes": self.classes}
        return {"settings": settings, "skipped": skipped}

    def _picture(self, image: GivenImage, pixels: np.ndarray, found: Found) -> dict[str, Any]:
        """Draw one image's maps; return its entry in the JSON."""
        from cnnlens.files import atomic
        from cnnlens.report.heat import ClassHeat, draw

        maps = found.maps[0].float().cpu().numpy()  # (K, h, w)
        classes = [self._of_class(found, index, heat) for index, heat in enumerate(maps)]
        shown = [
            ClassHeat(heat, c["name"], f"score {c['score']:.4g}   {c['probability']:.1%}")
            for heat, c in zip(maps, classes, strict=True)
        ]
        rgb = (pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)).transpose(1, 2, 0)
        words = {"cam": "class activation maps", "gradcam": "Grad-CAM"}[self.settings.method]
        file = self.space.path / "cam" / f"{image.name}.png"
        with atomic(file) as temporary:
            picture = draw(rgb, shown, image.path.name, f"{words} at {self.seen.layer}")
            picture.save(temporary, "PNG")
        if self.raw:
            _write_raw(file.with_suffix(".npz"), rgb, maps, classes)
        score = classes[0]["score"]
        return {
            "file": file.name,
            "layer": self.seen.layer,
            "image": str(image.path),
            "class": classes[0]["class"],
            "class_name": classes[0]["name"],
            "method": self.settings.method,
            "initial": score,
            "final": score,
            "trace": [score],
            "classes": classes,
            "made_from": self._made_from(image),
        }

    def _of_class(self, found: Found, index: int, heat: np.ndarray) -> dict[str, Any]:
        from cnnlens.model.classes import class_name

        number = int(found.classes[0, index])
        y, x = divmod(int(heat.argmax()), heat.shape[1])
        return {
            "class": number,
            "name": class_name(number, self.model.classes),
            "score": float(found.scores[0, index]),
            "probability": float(found.probabilities[0, index]),
            "lowest": float(heat.min()),
            "highest": float(heat.max()),
            "position": [y, x],
        }


def _taken(made: Made) -> dict[str, str]:
    """Names of earlier runs' pictures, and the images that they show."""
    marks = {Path(e["file"]).stem: str(e["made_from"]["image"]) for e in made.entries}
    return {name: mark.rsplit(":", 2)[0] for name, mark in marks.items()}


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


def _show(
    screen: Screen, space: Workspace, names: list[str], summary: dict[str, Any], page: bool
) -> None:
    rows = [
        (entry["file"], c["name"], c["class"], round(c["score"], 4), round(c["probability"], 4))
        for entry in summary["pictures"]
        if entry["file"] in names
        for c in entry["classes"]
    ]
    screen.table(["picture", "class", "number", "score", "probability"], rows)
    screen.say(f"pictures: {space.path / 'cam'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")
