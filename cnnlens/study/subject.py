"""What an investigation works on: a network in memory, or the name of one, as it stands now."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from cnnlens.errors import UsageError
from cnnlens.settings.place import portable
from cnnlens.settings.run import ORDERS, ModelSettings
from cnnlens.voice import Voice

if TYPE_CHECKING:
    from torch import nn

    from cnnlens.model.model import Model
    from cnnlens.model.preprocess import Preprocess


class Subject:
    """The network of an investigation; what does not fit is refused before anything is opened.

    Parameters
    ----------
    model, preprocess, classes, device
        As `Investigation` takes them.
    opening : ModelSettings
        What was said besides.

    Raises
    ------
    UsageError
        For what does not fit, also where it would go unused.

    Attributes
    ----------
    spec : str or Model or None
        What was named, once it is opened the network; None: the workspace's, or `net`.
    net : torch.nn.Module or None
        The one in memory, if it is no `Model`.
    file : str or None
        The file that was named; later calls may turn `spec` to another checkpoint.
    options : dict
        Arguments of `open_model` that opened it.
    notes : list of str
        What is assumed of the names that were given to a `Model`.
    """

    def __init__(
        self,
        model: str | Path | nn.Module | Model | None,
        preprocess: Preprocess | Any,
        classes: Sequence[str] | Mapping[Any, Any] | str | None,
        device: str,
        opening: ModelSettings,
    ) -> None:
        self.opening = opening
        self.options: dict[str, Any] = {}
        self.notes: list[str] = []
        self.spec: str | Model | None = None
        self.net: nn.Module | None = None
        self.file: str | None = None
        self._is_ours = True  # to be opened anew where its files have changed
        if not (classes is None or isinstance(classes, str)):
            from cnnlens.model.class_names import given_names

            classes = given_names(classes)
        if isinstance(classes, str):
            self.opening = replace(opening, classes=classes)
        if model is None or isinstance(model, (str, Path)):
            if preprocess is not None:
                raise UsageError(
                    "preprocess= goes with a network in memory",
                    "of a file image_size=, mean= and std= say how it is fed",
                )
            self._name(model, classes)
        else:
            self._take(model, preprocess, classes, device)

    def _name(self, model: str | Path | None, classes: Sequence[str] | str | None) -> None:
        """Take the name of a network; None: the workspace's. Names of files hold from here on."""
        named: Any = classes if classes is None or isinstance(classes, str) else tuple(classes)
        if isinstance(classes, str) and classes not in ORDERS:
            from cnnlens.model.class_names import read_classes

            read_classes(classes)
            named = _meant(classes)
        arch = self.opening.arch and _meant(self.opening.arch)
        self.opening = replace(self.opening, classes=named, arch=arch)
        self.spec = None if model is None else _meant(str(model))
        self.file = self.spec if self.spec is not None and Path(self.spec).is_file() else None

    def _take(
        self, model: Any, preprocess: Any, classes: Sequence[str] | str | None, device: str
    ) -> None:
        """Take a network that is in memory already."""
        from cnnlens.model.class_names import read_classes
        from cnnlens.model.model import Model
        from cnnlens.model.output_names import renamed
        from cnnlens.model.wrap import unmarked, wrap_module

        if isinstance(classes, str):
            classes = None if classes in ORDERS else read_classes(classes)
        self._is_ours = False
        self._check_used(preprocess, opened=isinstance(model, Model))
        if isinstance(model, Model):
            self.spec = model if classes is None else renamed(model, [*classes])
            self.notes = [note for note in self.spec.notes if note not in model.notes]
            return
        place = None if device == "auto" else device
        self.net = model
        said = self.opening.as_arguments()
        self.options = {name: said[name] for name in ("image_size", "mean", "std") if said[name]}
        more = {"head": self.opening.head, **self.options}
        given = (model, preprocess, classes, place)
        unmarked(*given, **more)
        self._wrap = partial(wrap_module, *given, **more)

    def _check_used(self, preprocess: Any, opened: bool) -> None:
        """Refuse what would be passed over: of files, and of what is opened already."""
        files = ("arch", "weights")
        for name in (*files, *(("image_size", "mean", "std", "head") if opened else ())):
            if getattr(self.opening, name) is not None:
                goes = "a file of weights" if name in files else "a network that was not opened yet"
                raise UsageError(f"{name}= goes with {goes}", "leave it out")
        if opened and preprocess is not None:
            raise UsageError(
                "preprocess= goes with an nn.Module: a Model has its own",
                "give it to wrap_module, or replace(model, preprocess=…)",
            )

    def now(self, voice: Voice, force: bool = False) -> str | Model | None:
        """Return it as it stands now: a module, or the file of one, may have changed since the
        last call. What is to be opened anew, which is said, is a name again.
        """
        from cnnlens.model.opened_from import changed
        from cnnlens.model.steady import marked

        if self.net is not None:
            return self._wrap()
        if isinstance(self.spec, str | None):
            return self.spec
        if self.spec.lent_to is not None:
            return marked(self.spec)
        if not self._is_ours:
            return self.spec
        if (is_new := changed(self.spec.files)) and not force:
            voice.note(f"{self.spec.spec} has changed since it was opened: it is opened anew")
        return self.spec.spec if is_new or force else self.spec

    @property
    def module(self) -> nn.Module | None:
        """The network, once it is in memory."""
        return self.net if isinstance(self.spec, str | None) else self.spec.net

    def __str__(self) -> str:
        spec = self.spec if isinstance(self.spec, str) else getattr(self.spec, "spec", None)
        return spec or (type(self.net).__name__ if self.net is not None else "no model yet")


def _meant(name: str) -> str:
    """Return the name of a file, or of a factory in one, as it holds in every folder."""
    return portable(os.path.expanduser(name))  # noqa: PTH111  (a factory's is no path)


def place_of(device: Any) -> str:
    """Return the name of a device as `RunSettings` has it, where there is such a one.

    Raises
    ------
    UsageError
        When there is none.
    """
    name = "auto" if device is None else str(device)
    if name not in ("auto", "cpu"):
        from cnnlens.model.device import resolve_device

        resolve_device(name)
    return name


def is_lent(spec: str | Model | None) -> TypeGuard[Model]:
    """Whether a network, as it stands now, is a caller's own, in memory."""
    return not isinstance(spec, str | None) and spec.lent_to is not None
