"""What names from words are made of: words, and vectors of them and of images."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError
from cnnlens.files import mark
from cnnlens.progress import Step
from cnnlens.settings import LabelSettings, TextSettings

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.unit_labels import LayerLabels
    from cnnlens.study.session import Study

_GIVES = "give --words FILE and --encoder file.py:factory, or --vectors FILE.npz"
_SHIPPED = "imagenet"  # names of ImageNet's classes, as torchvision (BSD) has them
VECTORS = "vectors"  # the workspace's folder of them
_OF_TEXT = ("words", "template", "encoder", "vectors")


class Text:
    """Words and vectors of a run.

    Parameters
    ----------
    study : Study
        What it works on; vectors of an encoder are kept in its workspace, in ``vectors``.
    asked : LabelInputs
        What was named.
    settings : TextSettings
        How words are chosen.

    Raises
    ------
    UsageError
        When neither vectors nor an encoder and words are named, or both.
    """

    def __init__(self, study: Study, asked: Any, settings: TextSettings) -> None:
        if asked.groups is not None:
            raise UsageError("--groups are of classes, not of --from text", "leave it out")
        if (asked.vectors is None) == (asked.encoder is None):
            both = "are both named" if asked.vectors else "are both missing"
            raise UsageError(f"--vectors and --encoder {both}", _GIVES)
        if asked.vectors is not None and (asked.words or asked.template):
            raise UsageError("--vectors has its own words", "leave out --words and --template")
        if asked.encoder is not None and asked.words is None:
            raise UsageError(
                "--encoder compares images with words",
                "name some: --words FILE, or --words imagenet",
            )
        if bad := [one for one in asked.template if "{}" not in one]:
            raise UsageError(f"--template '{bad[0]}' has no {{}}", 'such as "a photo of a {}"')
        self.study, self.asked, self.settings = study, asked, settings
        self.templates = asked.template or ("{}",)
        self._vectors: Any = None

    @classmethod
    def of(cls, study: Study, asked: Any, settings: TextSettings) -> Text | None:
        """Give what a run needs; None where names are from classes.

        Raises
        ------
        UsageError
            When words are named, and not wanted.
        """
        if asked.source == "text":
            return cls(study, asked, settings)
        for name in _OF_TEXT:
            if getattr(asked, name):
                raise UsageError(f"--{name} is for --from text", "add --from text, or leave it out")
        return None

    def resolve(self, images: ImageSet) -> None:
        """Read the words, and the vectors that were made elsewhere; try the encoder."""
        self.images = images
        if self.asked.vectors is not None:
            self._read()
            return
        from cnnlens.activations.encoded import Kept, probed
        from cnnlens.data.word_vectors import read_words
        from cnnlens.model.encoder import open_encoder

        if str(self.asked.words) == _SHIPPED and not self.asked.words.exists():
            from cnnlens.model.class_names import imagenet_classes

            self.words = list(dict.fromkeys(imagenet_classes()))  # two names are of two classes
        else:
            self.words, again = read_words(self.asked.words)
            self._say(again, self.asked.words)
        self.encoder = open_encoder(self.asked.encoder)
        self.marks = probed(self.encoder, images, self.words, self.templates)
        self.kept = Kept.of(self.marks, images, self.words, self.templates)
        vectors = {"encoder": list(self.marks), "templates": list(self.templates)}
        self.key = {**self.settings.as_dict(), **vectors, "words": mark(self.words)}

    def _say(self, again: int, file: Path) -> None:
        if again:
            self.study.voice.note(
                f"{file}: words that are there more than once count once ({again})"
            )

    def _read(self) -> None:
        from hashlib import sha256

        from cnnlens.activations.encoded import Kept
        from cnnlens.data.word_vectors import read_vectors

        self._vectors = found = read_vectors(self.asked.vectors, self.images.paths)
        self._say(found.again, self.asked.vectors)
        content = sha256(found.images.tobytes() + found.words.tobytes()).hexdigest()[:16]
        self.kept = Kept.of(content, self.images, found.names, ())
        self.key = {
            **self.settings.as_dict(), "vectors": content, "words": mark(list(found.names)),
        }  # fmt: skip

    @property
    def described(self) -> dict[str, Any]:
        """What a summary says of it."""
        encoder = self.asked.encoder
        of = Path(self.asked.vectors).name if encoder is None else encoder.rpartition("/")[2]
        said = {"method": self.settings.method, "vectors": of, "templates": list(self.templates)}
        return {**said, "kept_vectors": asdict(self.kept)}  # by which `exam` examines names

    def measure(
        self, source: Source, settings: LabelSettings
    ) -> Generator[Step, None, LayerLabels]:
        """Make the vectors that are missing, then name the units of a layer."""
        from cnnlens.activations.encoded import encoded_steps
        from cnnlens.measure.text_labels import text_label_steps

        study, folder = self.study, self.study.workspace.path / VECTORS
        if self.asked.vectors is not None:
            self.kept.write(folder, self._vectors)
        elif self._vectors is None:
            self._vectors = yield from encoded_steps(
                self.encoder, self.images, self.words, self.templates, folder,
                study.run.batch_size, keys=self.marks, force=study.force,
            )  # fmt: skip
        return (yield from text_label_steps(source, self._vectors, settings, self.settings))
