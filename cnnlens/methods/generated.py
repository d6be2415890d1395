"""The generator of ``visualize --method generator``: opened, or trained once and kept."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.files import mark
from cnnlens.methods.priors import Nothing
from cnnlens.progress import Step, followed
from cnnlens.study.generators import Learned, keep_state, read_learned, read_state, tidy
from cnnlens.voice import about

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.methods.ascents import Ascents
    from cnnlens.model.layer import Layer
    from cnnlens.settings.generator import GeneratorSettings
    from cnnlens.settings.synthesize import VisualizeSettings
    from cnnlens.study.session import Study
    from cnnlens.synthesize.generator import Range
    from cnnlens.synthesize.generator_training import Training
    from cnnlens.synthesize.neighbours import Photos

FILE = "generator.pt"
KEPT_EVERY = 30.0  # seconds after which the state of a training is kept
_MOST = 20_000  # photos that are learned from
_HELD_OUT = 256
_FEW = 2_000  # photos below which it is said that they are few
_SHARE = 0.05  # held out, where the data names no splits
_TRIED = 256  # photos that say what codes are, of a foreign generator


class OfGenerator(Nothing):
    """A generator: the workspace's, which learns first; of a file; or foreign."""

    layer: Layer
    photos: Photos
    made_from: dict[str, Any]

    def __init__(
        self,
        study: Study,
        settings: VisualizeSettings,
        data: ImageSet | None,
        own: GeneratorSettings,
    ) -> None:
        self.own = own
        self.learns_from: ImageSet | None = None  # where it has yet to learn
        super().__init__(study, settings, data)

    @property
    def _file(self) -> Path:
        return self.study.workspace.path / "visualize" / FILE

    @property
    def _unfinished(self) -> Path:
        return self._file.with_name(".generator.unfinished.pt")

    def resolve(self) -> None:
        """Find the generator, or what it is to learn from."""
        from cnnlens.model.architectures.own_code import is_factory
        from cnnlens.synthesize.generator import code_layer

        study, named = self.study, self.own.generator
        file = Path(named or "").expanduser()
        foreign = named is not None and is_factory(named) and not file.exists()
        if self.own.code:
            self.layer = study.addresses.resolve(self.own.code, vectors=True)
        else:  # generators of others usually take vectors
            self.layer = code_layer(study.model, study.addresses, spread=not foreign)
        if named is None:
            self._resolve_own()
        elif foreign:
            self._open_foreign(named)
        else:
            self._use(read_learned(file), named)
        self.shown = {"generator": mark(self.made_from), "code": self.layer.name}

    # ---- one that learns

    def _resolve_own(self) -> None:
        """Use the one that is kept, where it is what was asked for; else one is to learn."""
        from cnnlens.synthesize.generator_training import comparator_layer

        study, kept = self.study, self._kept()
        named, addresses = self.own.comparator, study.addresses
        self.comparator = (
            addresses.resolve(named) if named else comparator_layer(addresses, self.layer)
        )
        photos = self.data
        if photos is None and kept is not None:
            self.made_from = self._key(kept.made_from.get("data"))
            if kept.made_from == self.made_from:
                return self._use(kept, f"visualize/{FILE}")
        photos = photos or study.photos()
        if photos is None:
            raise UsageError(
                f"no generator: none is kept in {study.workspace.path}, and it knows no photos to "
                "learn from",
                "name photos with -d DIR, or a generator with --generator FILE|file.py:factory",
            )
        self.made_from = self._key(photos.fingerprint)
        if kept is not None and kept.made_from == self.made_from:
            return self._use(kept, f"visualize/{FILE}")
        if len(photos.paths) < 2:
            raise CnnlensError(
                f"{photos.name} has one image: a generator learns from many",
                "name more photos with -d DIR",
            )
        if kept is not None:
            study.voice.note(f"the kept visualize/{FILE} learned otherwise: another one learns")
        self.learns_from = photos

    def _kept(self) -> Learned | None:
        """Read the workspace's, where there is one, and it is not to be made anew."""
        return read_learned(self._file) if self._file.is_file() and not self.study.force else None

    def _key(self, data: Any) -> dict[str, Any]:
        return self.study.key(
            self.layer, comparator=self.comparator.place.key, data=data,
            settings=self.own.training,
        )  # fmt: skip

    def _use(self, learned: Learned, name: str) -> None:
        """Take a generator that learned before; raise where it is another network's."""
        model, known = self.study.model, learned.made_from
        if (known.get("model"), known.get("preprocess")) != (model.fingerprint, self._preprocess):
            raise CnnlensError(
                f"{name} learned from the answers of another network, or of other preprocessing",
                "let one learn from photos with -d DIR",
            )
        if self.own.code and known.get("place") != self.layer.place.key:
            raise CnnlensError(
                f"{name} takes codes of {learned.layer}, not of {self.layer.name}",
                "leave --code out, or let another one learn with -d DIR",
            )
        self.layer = self.study.addresses.resolve(learned.layer, vectors=True)
        self.made_from, self.photos = dict(known), learned.photos
        self.value = learned.generator(model, self.layer)
        self.study.voice.note(f"{name}, codes of {self.layer.name}, {learned.said}")

    @property
    def _preprocess(self) -> dict[str, Any]:
        found: dict[str, Any] = self.study.key()["preprocess"]
        return found

    def plan(self) -> str:
        """Say what learns from what."""
        if self.learns_from is None:
            return ""
        from cnnlens.synthesize.generator_training import seconds_per_step

        s, photos = self.own, self.learns_from
        count = min(len(photos.paths), _MOST)
        if count < _FEW:
            self.study.voice.note(
                f"{counted(count, 'photo')} are few for a generator: what it draws stays vague"
            )
        step = seconds_per_step(self.study.model, self.layer, self.comparator, s)
        seconds = s.learn_steps * step
        return (
            f"a generator learns first, {s.learn_steps} steps of {s.learn_batch} of the "
            f"{counted(count, 'photo')} of {photos.name}: codes of {self.layer.name} (--code), "
            f"features of {self.comparator.name} (--comparator); {about(seconds)} if nothing else "
            "runs"
        )

    def work(self) -> Iterator[Step]:
        """Let it learn, on from where an earlier run was stopped; keep it."""
        if self.learns_from is None:
            tidy(self._unfinished, mark(self.made_from))
            return
        training, names = yield from self._training(self.learns_from)
        state = None if self.study.force else read_state(self._unfinished, mark(self.made_from))
        if state is not None:
            training.load_state_dict(state)
        kept = time.monotonic()
        try:
            for step in training.run():
                if time.monotonic() - kept >= KEPT_EVERY:
                    keep_state(self._unfinished, mark(self.made_from), training)
                    kept = time.monotonic()
                yield step
        except BaseException:
            if training.is_whole:  # else what was kept last stays
                keep_state(self._unfinished, mark(self.made_from), training)
            raise
        said = f"learned from {counted(len(names), 'photo')} of {self.learns_from.name}"
        learned = Learned.of(training, names, said, self.made_from)
        learned.write(self._file)
        self._unfinished.unlink(missing_ok=True)
        errors = ", ".join(f"{name} {value:.3f}" for name, value in learned.errors.items())
        self.study.voice.note(f"visualize/{FILE} is kept; on images held out: {errors}")
        self.value, self.photos = learned.generator(self.study.model, self.layer), learned.photos
        self.learns_from = None

    def _training(self, photos: ImageSet) -> Generator[Step, None, tuple[Training, list[str]]]:
        """Read photos and their codes; return what learns from them, and what they are called."""
        import numpy as np
        import torch

        from cnnlens.data.decoded import decoded_steps
        from cnnlens.data.open import held_out_beside
        from cnnlens.data.splits import two_splits
        from cnnlens.synthesize.examples import Examples
        from cnnlens.synthesize.generator_training import Training

        model, run, seed = self.study.model, self.study.run, self.own.learn_seed
        beside = held_out_beside(photos)
        sets = [(photos, spaced(photos, _MOST))]
        sets += [] if beside is None else [(beside, spaced(beside, _HELD_OUT))]
        found = yield from decoded_steps(
            sets, model.preprocess, batch_size=run.batch_size, workers=run.workers
        )
        learned = found.sources == 0
        if beside is None:
            learned = two_splits(photos, seed, _SHARE)[0][found.positions] == 0
        places, held_out = (torch.from_numpy(np.flatnonzero(one)) for one in (learned, ~learned))
        examples = Examples(model, self.layer, found.pixels, run.batch_size)
        yield from examples.read(places)
        training = Training(model, self.comparator, examples, places, held_out, self.own)
        return training, [photos.paths[row] for row in found.positions[learned].tolist()]

    # ---- a foreign one

    def _open_foreign(self, spec: str) -> None:
        """Build it; what its codes may be, photos say."""
        from cnnlens.model.architectures import registry
        from cnnlens.model.architectures.own_code import printed
        from cnnlens.model.model import fingerprint
        from cnnlens.synthesize.generator import fitted

        study, model = self.study, self.study.model
        architecture = registry.architecture(spec)
        net = architecture.make().to(model.device)
        code = architecture.source and architecture.source + printed(net)
        photos = self.data or study.photos()
        if photos is None:
            raise UsageError(
                f"what codes {spec} may get is not known without photos", "name some with -d DIR"
            )
        codes, images = self._codes(photos)
        shape = (model.preprocess.channels, *model.preprocess.size)
        self.value, said = fitted(
            net, self.layer, codes.to(model.device), shape, spec, self.own.between
        )
        count = counted(len(images.names), "photo")
        bounds = f"codes of {self.layer.name} keep within those of {count} of {photos.name}"
        study.voice.note("; ".join([bounds, *said]))
        self.photos = images
        self.made_from = study.key(
            self.layer,
            generator=fingerprint(spec, net, code),
            data=photos.fingerprint,
            between=list(self.value.between),
        )

    def _codes(self, photos: ImageSet) -> tuple[Range, Photos]:
        """Range of some photos' codes; these photos, to compare with."""
        import torch

        from cnnlens.data.decoded import decoded_steps
        from cnnlens.synthesize.examples import Examples
        from cnnlens.synthesize.generator import Range
        from cnnlens.synthesize.neighbours import Photos

        model, run = self.study.model, self.study.run
        steps = decoded_steps(
            [(photos, spaced(photos, _TRIED))], model.preprocess,
            batch_size=run.batch_size, workers=run.workers,
        )  # fmt: skip
        found = followed(steps, None)
        examples = Examples(model, self.layer, found.pixels, run.batch_size)
        rows = torch.arange(len(found.pixels))
        names = [photos.paths[row] for row in found.positions.tolist()]
        with model.in_use():
            for _ in examples.read(rows):
                pass
            return Range.of(examples, rows), Photos.of(names, examples, rows)

    # ---- beside photos

    def compare(self, part: Ascents) -> None:
        """Set photos beside pictures that have none yet: the nearest by pixels, and by code."""
        import torch

        from cnnlens.report.figures.generated import write_nearest
        from cnnlens.report.figures.visualize import read_picture
        from cnnlens.synthesize.generator import codes_of

        model, folder = self.study.model, part.ledger.folder
        for entry in part.entries:
            if "nearest" in entry:
                continue
            image = torch.from_numpy(
                read_picture(folder / entry["file"], model.preprocess.channels)
            )
            with model.in_use(), torch.no_grad():
                codes = codes_of(model, self.layer, image[None]).cpu()
            (found,) = self.photos.nearest(image[None], codes)
            photos = [self.photos.small[one.pop("place")].numpy() / 255 for one in found.values()]
            entry["nearest"] = found
            write_nearest(folder, entry, image.numpy(), photos)
            entry["beside"] = f"beside/{entry['file']}"


def spaced(photos: ImageSet, most: int) -> list[int]:
    """Places of evenly spaced photos, at most so many."""
    import numpy as np

    last = len(photos.paths) - 1
    return [round(at) for at in np.linspace(0, last, min(most, last + 1)).tolist()]
