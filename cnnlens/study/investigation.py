"""The Python face: every command is a method of one object, with the same names and defaults.

import cnnlens

lens = cnnlens.Investigation("model.pt", "out")
found = lens.dissect(data="broden_real", layer="features.12")
found.iou.max(), found.labels[323]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.files.workspace import as_call
from cnnlens.settings.option import check_keywords, fields_of, plain
from cnnlens.settings.place import given_path
from cnnlens.settings.run import DataSettings, ModelSettings, RunSettings
from cnnlens.study.python_method import Asked, bound
from cnnlens.study.python_words import PythonVoice, python_errors
from cnnlens.study.session import Study
from cnnlens.study.subject import Subject, is_lent, place_of
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cnnlens.methods.method import Method
    from cnnlens.model.layers import Layers
    from cnnlens.model.model import Model
    from cnnlens.model.preprocess import Preprocess
    from cnnlens.report.unit_search import Hit

_GIVEN = "given"  # folder of pictures that were named as arrays
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # of investigations without one


class Investigation:
    """One model, one folder of results, every method.

    A call writes the same files as the command of its name, resumes as it does, and returns what
    it found. A module of the caller's leaves every call as it came: mode, device,
    `requires_grad`, hooks, buffers; so do the global random state and torch's threads.

    Parameters
    ----------
    model : str or path or torch.nn.Module or Model, optional
        MODEL as on the command line, or a network in memory (DataParallel and compiled ones are
        unwrapped). Left out: the workspace's.
    workspace : path, optional
        Where results go. Left out: a temporary folder for a network in memory, which goes when
        Python ends; else as on the command line.
    preprocess : Preprocess, optional
        How pixels become input, for a network in memory: ours, torchvision's transforms of a
        weights entry, or timm's data config. Left out: ImageNet's at 224 pixels, which is said.
    classes : sequence of str, mapping or str, optional
        Names of its outputs, or a dict of their numbers; or what ``--classes`` takes.
    device : str or torch.device
        ``auto``, ``cpu``, ``cuda[:N]``, ``mps``; a network in memory stays where it is unless one
        is named.
    batch_size, workers : int
        Images in the network at once; who reads them ahead (see ``--workers``).
    quiet : bool
        No notes and no progress.
    **opening
        ``arch``, ``weights``, ``allow_pickle``, ``image_size``, ``mean``, ``std``, ``head``, as on
        the command line.

    Raises
    ------
    UsageError
        For an unknown keyword, or a value that does not fit.
    CnnlensError
        When the workspace is damaged.
    """

    def __init__(
        self,
        model: str | Path | nn.Module | Model | None = None,
        workspace: str | Path | None = None,
        *,
        preprocess: Preprocess | Any = None,
        classes: Sequence[str] | Mapping[Any, Any] | str | None = None,
        device: str | torch.device = "auto",
        batch_size: int = RunSettings.batch_size,
        workers: int = RunSettings.workers,
        quiet: bool = False,
        **opening: Any,
    ) -> None:
        check_keywords("Investigation", opening, fields_of(ModelSettings))
        self._run = RunSettings(place_of(device), batch_size, workers)
        self._quiet = quiet
        self._said: set[str] = set()
        opened = ModelSettings.of_values(**opening)
        self._subject = Subject(model, preprocess, classes, self._run.device, opened)
        #: temporary folders, by the network whose results they hold; None: a folder was named
        self._folders: dict[str, Path] | None = None
        if workspace is None and not isinstance(model, str | Path | None):
            self._folders = {}
            workspace = _temporary()
        place = None if workspace is None else given_path("workspace", workspace)
        self.workspace = Workspace(place)

    # ---- what it works on

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep calls of other threads, of this and of other investigations, from its network, and
        from those that share parts with it.
        """
        from cnnlens.model.alone import alone

        with alone(self), ExitStack() as more:
            if (net := self._subject.module) is not None:
                from cnnlens.model.architectures.registry import unwrapped

                more.enter_context(alone(*unwrapped(net).modules()))
            yield

    def _opened(self, force: bool = False) -> str | Model | None:
        """What it works on as it stands now.

        Results of a module that has changed go to another temporary folder, where none was named.
        """
        voice = PythonVoice(quiet=self._quiet)
        spec = self._subject.now(voice, force)
        if self._folders is None or not is_lent(spec):
            return spec
        known = bool(self._folders)
        mark = f"{spec.fingerprint} {spec.preprocess.key}"
        if known and mark not in self._folders:
            voice.note(
                "the network has changed: its results go to a temporary folder of their own, "
                "and those of before stay where they are"
            )
        path = self._folders.get(mark) or (_temporary() if known else self.workspace.path)
        self._folders[mark] = path
        self.workspace = self.workspace.moved(path)
        return spec

    @contextmanager
    def _study(
        self, run: RunSettings, force: bool, reading: DataSettings | None = None
    ) -> Iterator[Study]:
        """Open a study for one call; the caller's module and random state come back after it."""
        from cnnlens.model.borrowed import random_states
        from cnnlens.model.device import own_threads
        from cnnlens.model.gradients import in_own_mode

        voice = PythonVoice(quiet=self._quiet)
        spec = self._opened(force)
        reading = reading or DataSettings()
        subject = self._subject
        study = Study(self.workspace, spec, subject.opening, run, voice, force, reading)
        study.options, study.said = {**subject.options}, self._said
        in_use: AbstractContextManager[object] = nullcontext()
        if spec is not None and not isinstance(spec, str):
            in_use = spec.in_use()
            for note in subject.notes if subject.net is None else spec.notes:
                self._say(voice, note)
        with python_errors(), in_own_mode(), random_states(), own_threads(), in_use:
            yield study
        if "model" in vars(study):
            subject.options = study.options
            if subject.net is None:
                own = getattr(spec, "precision", RunSettings.precision)
                subject.spec = replace(study.model, precision=own)  # a call's own is that call's

    def _say(self, voice: Voice, note: str) -> None:
        """Say what was assumed, once."""
        if note not in self._said:
            self._said.add(note)
            voice.note(note)

    @property
    def model(self) -> Model:
        """The network, as the methods see it."""
        with self._alone(), self._study(self._run, False) as study:
            return study.model

    def layers(self) -> Layers:
        """List what can be addressed: a `Layers`, which shows itself as a table."""
        with self._alone(), self._study(self._run, False) as study:
            return study.addresses

    def report(self, site: str | Path | None = None, url: str = "") -> Path:
        """Write the page over all results, or a site to share; return where it is.

        Parameters
        ----------
        site : path-like, optional
            Write a folder to host instead, over every unit: new, empty, or an earlier site.
        url : str, optional
            Where that will be hosted, for previews of links.

        Raises
        ------
        CnnlensError
            When there is nothing to report, or `site` holds anything else.
        """
        from cnnlens.methods import write_page, write_site

        voice = PythonVoice(quiet=self._quiet)
        if site is None:
            return write_page(self.workspace.path, voice)
        return write_site(self.workspace.path, given_path("site", site), url, voice).site

    def search(
        self, text: str, layer: str | Sequence[str] = (), encoder: str | None = None
    ) -> list[Hit]:
        """Find units by what they are called, the best first.

        Parameters
        ----------
        text : str
            What they shall be called.
        layer : str or sequence of str, optional
            Of these layers alone.
        encoder : str, optional
            Orders names by how near their meaning comes; as for `label`.

        Raises
        ------
        UsageError
            When `text` says nothing.
        CnnlensError
            When no unit has a name, or not one of those layers.
        """
        from cnnlens.methods import find_units

        if not isinstance(text, str):
            raise UsageError(f"{text!r} is no text to search for", 'say some words: "car wheel"')
        layers = [layer] if isinstance(layer, str) else list(layer)
        return find_units(self.workspace.path, text, layers, encoder)

    # ---- the methods

    def __getattr__(self, name: str) -> Any:
        from cnnlens.methods.plugged import in_python

        known = {} if name.startswith("_") else _methods()
        if (method := known.get(in_python(name))) is None:
            near = did_you_mean(name, [*_methods(), "layers", "report", "search"])
            raise AttributeError(f"Investigation has no method '{name}'; {near}".rstrip("; "))
        return bound(partial(self._call, method), method)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_methods()})

    def __repr__(self) -> str:
        return f"Investigation({self._subject}, workspace={str(self.workspace.path)!r})"

    def _call(self, method: type[Method], values: Mapping[str, Any]) -> Any:
        """Run a method with the given keywords."""
        with self._alone():
            return self._carried_out(method, values)

    def _carried_out(self, method: type[Method], values: Mapping[str, Any]) -> Any:
        from cnnlens.data.member_path import forget_addresses
        from cnnlens.data.python_values import PythonValues
        from cnnlens.methods.handed_out import handed_out
        from cnnlens.methods.method import carry_out

        values = {name: plain(value) for name, value in values.items()}
        asked = Asked.of(method, values, self._run)
        share = asked.share
        self.workspace = self.workspace.reopened(asked.force)
        forget_addresses()
        with self._study(asked.run, asked.force, asked.reading) as study:
            study.spec = self._subject.file if method.names_models else study.spec
            study.share = share
            values_here = PythonValues(
                self.workspace.path / _GIVEN,
                asked.labels,
                asked.reading.bounds,
                lambda: None if method.names_models else study.model.preprocess,
            )
            one = method(study, *asked.build(values_here), page=True)
            carry_out(one, as_call(method.name, values))
            if share.is_apart:
                return one.document()
            if one.failed:
                raise one.failed[0]
            return handed_out(one)


def _temporary() -> Path:
    """Make a folder for results; they outlive an investigation, and it goes at exit."""
    folder = tempfile.TemporaryDirectory(prefix="cnnlens-")
    _FOLDERS.append(folder)
    return Path(folder.name)


def _methods() -> dict[str, type[Method]]:
    """All methods by what they are called in Python."""
    from cnnlens.methods import methods
    from cnnlens.methods.plugged import in_python

    return {in_python(name): method for name, method in methods().items()}
