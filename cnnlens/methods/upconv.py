"""The trained networks of ``cnnlens invert --method upconv``: those that are there, and those that
are still to be trained.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.picture_names import content_in, mark_of, place_in, place_of
from cnnlens.errors import CnnlensError, counted
from cnnlens.files import mark
from cnnlens.files.ledger import as_read
from cnnlens.progress import Step
from cnnlens.settings.invert import UpconvSettings
from cnnlens.voice import about

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.data.decoded import Chosen, Decoded
    from cnnlens.data.given import GivenImage
    from cnnlens.model.layer import Layer
    from cnnlens.study.session import Study
    from cnnlens.synthesize.training import Training
    from cnnlens.synthesize.upconv import UpconvNet

TRAINING = 1  # counts changes of how it is trained: what an earlier version trained is stale
_FEW = 1000  # images to learn from: fewer are said to be few


@dataclass
class Trained:
    """The network of one layer: what it is made from, and what is in its file."""

    layer: Layer
    path: Path
    made_from: dict[str, Any]
    content: dict[str, Any] | None = None  # None: it is still to be trained

    @property
    def mark(self) -> str:
        """Equal marks, equal networks, before they are trained too."""
        return mark(self.made_from)

    def has_learned(self, image: GivenImage) -> bool:
        """Whether it learned from an image, wherever that lay then."""
        return bool(self._learned & {content_in(image.mark), image.place})

    @cached_property
    def _learned(self) -> frozenset[str]:
        """What is in the images that it learned from; where they are, of which no more is known."""
        marks: Sequence[str] = self.content.get("learned", ()) if self.content else ()
        return frozenset(content_in(one) or place_in(one) for one in marks)

    @cached_property
    def net(self) -> UpconvNet:
        """The network."""
        from cnnlens.synthesize.trained import network

        assert self.content is not None
        return network(self.content, self.path)


@dataclass
class Upconvs:
    """The networks of the layers that were asked for.

    Attributes
    ----------
    study : Study
        What all work on.
    settings : UpconvSettings
        Of their training.
    data : path or ImageSet or None
        Images to train on; None: what is trained already serves, whatever it was trained on, else
        the workspace's.
    lost : dict of Layer to CnnlensError
        Trainings that failed.
    """

    study: Study
    settings: UpconvSettings
    data: Any
    lost: dict[Layer | None, CnnlensError] = field(default_factory=dict)
    _known: dict[Layer, Trained] = field(default_factory=dict)
    _sets: list[Chosen] = field(default_factory=list)
    _split: str = ""

    def add(self, layer: Layer) -> Trained:
        """Find a layer's network, or what it is to be trained from.

        Raises
        ------
        CnnlensError
            When the file is damaged, or of another network; when there is nothing to train on.
        """
        path = self.study.folder("invert", layer) / "upconv.pt"
        of = as_read(self.study.key(layer))
        if self.data is None and path.is_file():
            one = Trained(layer, path, *self._read(path))
            if one.made_from["layer"] != of:
                raise CnnlensError(
                    f"{path} inverts another network or layer",
                    "name images with -d DIR: it is trained anew on them, once",
                )
            self._say_unused(one)
        else:
            one = self._to_train(layer, path, of)
        self._known[layer] = one
        return one

    def of(self, layer: Layer) -> Trained:
        """A layer's network, after `add`."""
        return self._known[layer]

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        from cnnlens.synthesize.trained import read_trained

        try:
            content = read_trained(path)
        except CnnlensError as error:
            raise CnnlensError(error.message, "train it anew: -d DIR --force") from error
        return content["made_from"], content

    def _say_unused(self, one: Trained) -> None:
        """Say that options of a training do nothing where there is none."""
        usual, asked = UpconvSettings().as_dict(), self.settings.as_dict()
        given = [k for k, v in asked.items() if v not in (usual[k], one.made_from["settings"][k])]
        if given:
            flags = ", ".join(f"--{name}" for name in given)
            self.study.voice.note(
                f"{flags}: {one.layer.name}/{one.path.name} is trained already, and serves as it "
                "is; with -d DIR it is trained anew"
            )

    def _to_train(self, layer: Layer, path: Path, of: dict[str, Any]) -> Trained:
        if not self._sets:
            self._sets, self._split = self._divided()
        images = [one for one, _ in self._sets]
        made_from = {
            "layer": of,
            "data": [one.fingerprint for one in images],
            "labels": images[0].labels_fingerprint if images[0].kind == "broden" else "",
            "squash": images[0].aligned,
            "settings": self.settings.as_dict(),
            "training": TRAINING,
        }
        one = Trained(layer, path, as_read(made_from))
        if path.is_file() and not self.study.force:
            known, content = self._read(path)
            if known == one.made_from:
                one.content = content
            else:
                self.study.voice.note(
                    f"{layer.name}: {path.name} was trained on other images or with other "
                    "settings; it is trained anew"
                )
        return one

    def _divided(self) -> tuple[list[Chosen], str]:
        """Images to learn from and images held out; in words, which these are."""
        import numpy as np

        from cnnlens.data.open import held_out_beside
        from cnnlens.data.splits import two_splits

        images = self._images()
        beside = held_out_beside(images)
        if beside is not None:
            return [(images, None), (beside, None)], f"its split '{beside.split}'"
        of, words = two_splits(images, self.settings.seed, self.settings.validation)
        how = "its own splits" if words.startswith("its own") else "by a hash of their paths"
        return [(images, np.flatnonzero(of == n).tolist()) for n in (0, 1)], how

    def _images(self) -> ImageSet:
        from cnnlens.data.open import train_split
        from cnnlens.study.images import ANY

        if self.data is not None and self.study.reading.split is None:
            split = train_split(self.data)
            self.study.reading = replace(self.study.reading, split=split)
        if self.data is None and self.study.workspace.data_entry(ANY) is None:
            raise CnnlensError(
                "there is no trained network for this layer yet, and there are no images to train "
                "one on",
                "name some with -d DIR: it is trained once, kept as upconv.pt, and serves every "
                "later image",
            )
        return self.study.images(self.data)

    # ---- training

    @property
    def _todo(self) -> list[Trained]:
        return [one for one in self._known.values() if one.content is None]

    def plan(self) -> str:
        """Say what is to be trained, on how many images, and about how long that takes."""
        from cnnlens.synthesize.training import seconds_per_image

        if not self._todo:
            return ""
        count, held = (len(one.paths if some is None else some) for one, some in self._sets)
        epochs, model = self.settings.passes(count), self.study.model
        passes = epochs * (count + held / 4)
        seconds = sum(
            passes * seconds_per_image(model, one.layer, self.settings) for one in self._todo
        )
        names = ", ".join(one.layer.name for one in self._todo)
        return (
            f"to train: {names} on {counted(count, 'image')}, {counted(epochs, 'epoch')} at most, "
            f"{held} held out ({self._split}); {about(seconds)}"
        )

    def train(self) -> Iterator[Step]:
        """Train what is still to be trained; images are read once."""
        from cnnlens.data.decoded import decoded_steps
        from cnnlens.synthesize.trained import tidy

        for one in self._known.values():
            if one.content is not None:
                tidy(one.path, one.made_from)
        if not self._todo:
            return
        run = self.study.run
        pixels = yield from decoded_steps(
            self._sets, self.study.model.preprocess,
            batch_size=run.batch_size, workers=run.workers,
        )  # fmt: skip
        self.study.voice.skipped([{"image": p, "reason": r} for p, r in pixels.skipped])
        for one in self._todo:
            try:
                yield from self._train(one, pixels)
            except CnnlensError as error:  # the other layers' are trained all the same
                self.lost[one.layer] = error

    def _train(self, one: Trained, found: Decoded) -> Generator[Step, None, None]:
        import torch

        from cnnlens.synthesize.examples import Examples
        from cnnlens.synthesize.trained import save_training
        from cnnlens.synthesize.training import Training

        training, held_out = (
            (torch.from_numpy(found.sources) == n).nonzero()[:, 0] for n in (0, 1)
        )
        if not (len(training) and len(held_out)):
            raise CnnlensError("too few images can be read to train on some and hold others out")
        model, name = self.study.model, one.layer.name
        examples = Examples(model, one.layer, found.pixels, self.study.run.batch_size)
        yield from examples.read(training)
        run = Training(examples, training, held_out, self.settings, model)
        self._go_on(one, run)
        for step in run.steps():
            if step.milestone:
                save_training(one.path, run, one.made_from, self._about(run), self._learned)
            yield replace(step, stage=f"training on {name}")
        save_training(one.path, run, one.made_from, self._about(run), self._learned)
        one.made_from, one.content = self._read(one.path)
        self._say(name, one.content["about"])

    @cached_property
    def _learned(self) -> list[str]:
        """Marks of the images that are learned from."""
        images, some = self._sets[0]
        rows = range(len(images.paths)) if some is None else some
        return [_mark(images.file(row)) for row in rows]

    def _go_on(self, one: Trained, run: Training) -> None:
        """Let a training go on from where an earlier run was interrupted."""
        from contextlib import suppress

        from cnnlens.synthesize.trained import read_trained, unfinished

        path = unfinished(one.path)
        if self.study.force or not path.is_file():
            return
        with suppress(CnnlensError, KeyError, ValueError, RuntimeError, TypeError):  # cut short
            content = read_trained(path)
            if content["made_from"] == one.made_from:
                run.load_state_dict(content["training"])
                self.study.voice.note(f"{one.layer.name}: going on after epoch {run.epoch}")

    def _about(self, run: Training) -> dict[str, Any]:
        """What is told of a training."""
        best = run.best
        found = {
            "data": self._sets[0][0].name,
            "images": len(run.training),
            "held_out": len(run.held_out),
            "split": self._split,
            "epochs": run.epoch,
            "best_epoch": best["epoch"],
            "training_rmse": best["training_rmse"],
            "held_out_rmse": best["held_out_rmse"],
            "mean_image_rmse": run.floor,
            "history": run.history,
        }
        return {**found, "note": few} if (few := _few_words(found)) else found

    def _say(self, name: str, about: dict[str, Any]) -> None:
        """Say how well a network does, and where that is little."""
        held_out, floor = about["held_out_rmse"], about["mean_image_rmse"]
        learned = about["training_rmse"]
        words = f"{name}: pixel RMSE {held_out:.3f} on {about['held_out']} images held out"
        self.study.voice.note(f"{words}, mean image {floor:.3f}, own images {learned:.3f}")
        if "note" in about:
            self.study.voice.note(f"{name}: {about['note']}")


def _mark(file: Path) -> str:
    """Tell an image by its place and content; one in memory by its place alone."""
    try:
        return mark_of(file)
    except OSError:
        return place_of(file)


def _few_words(about: dict[str, Any]) -> str:
    """Say honestly what too few images taught a network; empty where there is nothing to say."""
    count, held_out = about["images"], about["held_out_rmse"]
    if held_out > 0.98 * about["mean_image_rmse"]:
        return (
            f"of {counted(count, 'image')} the network learned nothing that serves for others: its "
            "pictures are hardly better than the mean image"
        )
    if count < _FEW and held_out > 1.2 * about["training_rmse"]:
        return (
            f"{counted(count, 'image')} to learn from are few, and it does better on these "
            f"({about['training_rmse']:.3f}) than on others ({held_out:.3f}): it takes thousands "
            "to show what the layer really knows"
        )
    return f"{counted(count, 'image')} to learn from are few" if count < _FEW else ""
