"""The network of a study: the one that was named, or the workspace's, opened once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnnlens.distributed import Share
from cnnlens.errors import UsageError
from cnnlens.settings import DataSettings, ModelSettings, RunSettings
from cnnlens.settings.place import portable, same_place
from cnnlens.settings.run import ORDERS
from cnnlens.study.workspace import Workspace, needs_model
from cnnlens.voice import Voice

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layers
    from cnnlens.model.model import Model

_FED = ("image_size", "mean", "std")


@dataclass
class Network:
    """What one run was asked to work on, and the network that this means."""

    workspace: Workspace  # where results go, and what earlier runs worked on
    spec: str | Model | None = None  # the MODEL that was named; None: the workspace's
    opening: ModelSettings = field(default_factory=ModelSettings)  # how to open it
    run: RunSettings = field(default_factory=RunSettings)
    voice: Voice = field(default_factory=Voice)  # where notes and progress go
    force: bool = False  # redo what is made, clear the results of another model
    reading: DataSettings = field(default_factory=DataSettings)  # how images are read
    share: Share = field(default_factory=Share)  # of the work, where several processes do it
    said: set[str] = field(default_factory=set)  # lines that need not be said again
    _says_heads: bool = True
    #: arguments of `open_model`, beside spec and device, that opened the model
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def model(self) -> Model:
        """The named model, or the workspace's; what was assumed on opening is said.

        Raises
        ------
        UsageError
            When neither is known.
        CnnlensError
            When it cannot be opened.
        """
        from cnnlens.model.open import open_model

        recalled = self.workspace.recalled
        if self.spec is not None and not isinstance(self.spec, str):
            return self._as_fed(recalled(self.spec)).computing(self.run.precision)
        known = self.workspace.model_options
        if self.spec is None:
            if known is None:
                raise needs_model(self.workspace)
            spec = known["spec"]
            self._check_trusted(spec, spec)
            if known.get("in_memory"):
                raise UsageError(
                    f"the workspace {self.workspace.path} is about a network in memory ({spec})",
                    "in Python: Investigation(net, workspace); or name a model, with another -w",
                )
        else:
            spec = portable(self.spec)  # as later commands open it: equal names, equal marks
            known = known if known and same_place(known["spec"], spec) else None
        # what was said of this model before still holds
        self.options = self.opened_by(known)
        model = open_model(spec, device=self.run.device, **self.options)
        model = self.workspace.known_as(model).computing(self.run.precision)
        before = model.classes
        if self.options["classes"] is None:
            model = recalled(model)
        for line in (*model.notes, f"{model.arch}: {model.preprocess}"):
            self.voice.note(line)
        if model.classes is not before:
            self.voice.note(f"classes: {model.classes_source}, as before")
        return model

    def opened_by(self, known: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return `open_model`'s arguments, as said, else as the workspace knows them."""
        options = self.opening.as_arguments(known)
        if self.opening.arch is None and options["arch"]:
            self._check_trusted(options["arch"], f"--arch {options['arch']}")
        return options

    def _check_trusted(self, code: str, way: str) -> None:
        """Run no code that the workspace alone names: it may be somebody else's."""
        from cnnlens.model.architectures.trusted import check_trusted

        check_trusted(code, f"the workspace {self.workspace.path} is about", way)

    def _as_fed(self, model: Model) -> Model:
        """Feed a network in memory as was said or found before, where it does not say more."""
        if model.lent_to is None or not model.preprocess.is_assumed:
            return model
        known = self.workspace.model_options if self.workspace.knows(model) else None
        for name in _FED:
            if self.options.get(name) is None and (value := (known or {}).get(name)):
                self.options[name] = tuple(value)
        fed = model.preprocess.overridden(*map(self.options.get, _FED))
        return replace(model, preprocess=fed)

    @cached_property
    def addresses(self) -> Layers:
        """Everything that can be addressed in the model; says which output of several counts."""
        from cnnlens.model.layers import find_layers

        found = find_layers(self.model)
        self.say_heads(found.notes)
        return found

    def say_heads(self, notes: Sequence[str]) -> None:
        """Say once which of several outputs is the classes'."""
        if self._says_heads:
            for line in notes:
                self._say_once(line)
        self._says_heads = self._says_heads and not notes

    def say_unsteady(self) -> None:
        """Say what an image's values depend on besides the image; looked at once in a workspace."""
        from cnnlens.model.steady import unsteady

        model, known = self.model, self.workspace.document["model"] or {}
        if model.unsteady is None and self.workspace.knows(model) and "unsteady" in known:
            model.unsteady = [str(line) for line in known["unsteady"]]
        if model.unsteady is None:
            with model.in_use():
                model.unsteady = unsteady(model.net, model.preprocess, model.batch)
        for line in model.unsteady:
            self._say_once(line)

    def _say_once(self, line: str) -> None:
        if line not in self.said:
            self.voice.note(line)
            self.said.add(line)

    @property
    def _order(self) -> str | None:
        """The order of class folders that ``--classes`` says."""
        return self.opening.classes if self.opening.classes in ORDERS else None

    def take_natural_size(self, images: ImageSet) -> None:
        """Feed images as large as they are to a network whose input size is only assumed.

        Where results were made at the assumed one, it stays; what fits these images is said once.
        """
        space = self.workspace
        if self.spec is None and (space.model_options is None or space.knows_data(images)):
            return
        model = self.model
        sized = self.opening.image_size or self.options.get("image_size")
        if sized or not model.preprocess.is_assumed or "addresses" in self.__dict__:
            return
        stays = space.knows(model) and space.has_results()
        if stays and space.knows_data(images):
            return
        from cnnlens.measure.assumed import natural_size

        if (found := natural_size(model, images, self._order)) is None:
            return
        elsewhere = f"{found.found}; {found.ask} takes theirs, with another -w"
        self.voice.note(elsewhere if stays else found.note)
        if found.better and not stays:
            self.options["image_size"] = found.size
            own = replace(model.preprocess, size=found.size, resize=None)
            self.model = replace(model, preprocess=own)
