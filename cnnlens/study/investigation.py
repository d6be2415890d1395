"""The Python face: every command is a method of one object, with the same names and defaults.

import cnnlens

lens = cnnlens.Investigation("model.pt", "out")
found = lens.dissect(data="broden_real", layer="features.12")
found.iou.max(), found.labels[323]
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.distributed import Share
from cnnlens.errors import UsageError, did_you_mean
from cnnlens.files.workspace import as_call
from cnnlens.settings.option import Field, check_keywords, fields_of, plain, values_of
from cnnlens.settings.run import ORDERS, DataSettings, ModelSettings, RunSettings
from cnnlens.study.python_words import PythonVoice, python_errors
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

if TYPE_CHECKING:
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
    `requires_grad`, hooks, buffers; so does the global random state.

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
    device : str
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
        For an unknown keyword.
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
        device: str = "auto",
        batch_size: int = RunSettings.batch_size,
        workers: int = RunSettings.workers,
        quiet: bool = False,
        **opening: Any,
    ) -> None:
        check_keywords("Investigation", opening, fields_of(ModelSettings))
        self._opening = ModelSettings.of_values(**opening)
        self._run = RunSettings(device, batch_size, workers)
        self._quiet = quiet
        self._net: nn.Module | None = None
        self._spec: str | Model | None = str(model) if isinstance(model, Path) else None
        #: the file that was named; later calls may turn `_spec` to another checkpoint
        self._file = (
            str(model) if isinstance(model, (str, Path)) and Path(model).is_file() else None
        )
        self._is_ours = True  # to be opened anew where its files have changed
        self._options: dict[str, Any] = {}
        self._said: set[str] = set()
        #: temporary folders, by the network whose results they hold; None: a folder was named
        self._folders: dict[str, Path] | None = None
        if not (classes is None or isinstance(classes, str)):
            from cnnlens.model.class_names import given_names

            classes = given_names(classes)
        if isinstance(classes, str) or model is None or isinstance(model, (str, Path)):
            named: Any = classes if classes is None or isinstance(classes, str) else tuple(classes)
            self._opening = replace(self._opening, classes=named)
        if isinstance(model, str):
            self._spec = model
        elif model is not None and not isinstance(model, Path):
            self._take(model, preprocess, classes)
            if workspace is None:
                self._folders = {}
                workspace = _temporary()
        self.workspace = Workspace(None if workspace is None else Path(workspace))

    def _take(self, model: Any, preprocess: Any, classes: Sequence[str] | str | None) -> None:
        """Take a network that is in memory already."""
        from cnnlens.model.class_names import read_classes
        from cnnlens.model.model import Model
        from cnnlens.model.open import wrap_module

        if isinstance(classes, str):
            classes = None if classes in ORDERS else read_classes(classes)
        self._is_ours = False
        if isinstance(model, Model):
            self._spec = model if classes is None else model.called([*classes], "given")
            return
        device = None if self._run.device == "auto" else self._run.device
        self._net = model
        given = self._opening.as_arguments()
        self._options = {name: given[name] for name in ("image_size", "mean", "std") if given[name]}
        more = {"head": self._opening.head, **self._options}
        self._wrap = partial(wrap_module, model, preprocess, classes, device, **more)

    # ---- what it works on

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep calls of other threads, of this and of other investigations, from its network."""
        from cnnlens.model.alone import alone

        with alone(self), ExitStack() as more:
            net = self._net if isinstance(self._spec, str | None) else self._spec.net
            if net is not None:
                from cnnlens.model.architectures.registry import unwrapped

                more.enter_context(alone(unwrapped(net)))
            yield

    def _opened(self, force: bool = False) -> str | Model | None:
        """What it works on as it stands now: a module, or the file of one, may have changed since
        the last call.

        Results of one that has go to another temporary folder, where no folder was named.
        """
        from cnnlens.model.steady import marked

        if self._net is not None:
            spec = self._wrap()
        elif isinstance(self._spec, str | None) or self._spec.lent_to is None:
            return self._as_it_lies(force)
        else:
            spec = marked(self._spec)
        if self._folders is not None:
            known = bool(self._folders)
            mark = f"{spec.fingerprint} {spec.preprocess.key}"
            if known and mark not in self._folders:
                PythonVoice(quiet=self._quiet).note(
                    "the network has changed: its results go to a temporary folder of their own, "
                    "and those of before stay where they are"
                )
            path = self._folders.get(mark) or (_temporary() if known else self.workspace.path)
            self._folders[mark] = path
            self.workspace = self.workspace.moved(path)
        return spec

    def _as_it_lies(self, force: bool) -> str | Model | None:
        """Return what was opened; what shall open it anew where its files are others by now."""
        from cnnlens.model.opened_from import changed

        if isinstance(self._spec, str | None) or not self._is_ours:
            return self._spec
        if (is_new := changed(self._spec.files)) and not force:
            PythonVoice(quiet=self._quiet).note(
                f"{self._spec.spec} has changed since it was opened: it is opened anew"
            )
        return self._spec.spec if is_new or force else self._spec

    @contextmanager
    def _study(
        self, run: RunSettings, force: bool, reading: DataSettings | None = None
    ) -> Iterator[Study]:
        """Open a study for one call; the caller's module and random state come back after it."""
        from cnnlens.model.device import random_states
        from cnnlens.model.gradients import in_own_mode

        voice = PythonVoice(quiet=self._quiet)
        spec = self._opened(force)
        reading = reading or DataSettings()
        study = Study(self.workspace, spec, self._opening, run, voice, force, reading)
        study.options, study.said = {**self._options}, self._said
        in_use: AbstractContextManager[object] = nullcontext()
        if spec is not None and not isinstance(spec, str):
            in_use = spec.in_use()
            for note in spec.notes if self._net is not None else ():
                self._say(voice, note)
        with python_errors(), in_own_mode(), random_states(), in_use:
            yield study
        if "model" in vars(study):
            self._options = study.options
            if self._net is None:
                self._spec = study.model

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
        return write_site(self.workspace.path, Path(site), url, voice).site

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

        layers = [layer] if isinstance(layer, str) else list(layer)
        return find_units(self.workspace.path, text, layers, encoder)

    # ---- the methods

    def __getattr__(self, name: str) -> Any:
        from cnnlens.methods.plugged import in_python

        known = {} if name.startswith("_") else _methods()
        if (method := known.get(in_python(name))) is None:
            near = did_you_mean(name, [*_methods(), "layers", "report", "search"])
            raise AttributeError(f"Investigation has no method '{name}'; {near}".rstrip("; "))
        return _bound(self, method)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_methods()})

    def __repr__(self) -> str:
        spec = self._spec if isinstance(self._spec, str) else getattr(self._spec, "spec", None)
        named = spec or (type(self._net).__name__ if self._net is not None else "no model yet")
        return f"Investigation({named}, workspace={str(self.workspace.path)!r})"

    def _call(self, method: type[Method], values: Mapping[str, Any]) -> Any:
        """Run a method with the given keywords."""
        from cnnlens.data.member_path import forget_addresses
        from cnnlens.data.python_values import PythonValues
        from cnnlens.methods.handed_out import handed_out
        from cnnlens.methods.method import build, carry_out

        values = {name: plain(value) for name, value in values.items()}
        given = dict(values)
        force = bool(given.pop("force", False))
        known = _fields(method)
        labels = None if _is_table(given.get("labels"), known) else given.pop("labels", None)
        check_keywords(method.name, given, known, ("preset", "force", "labels"))
        run = self._run.changed(given)
        share = Share.parse(run.shard)
        reading = DataSettings.of_values(**values_of(DataSettings, given))
        _check_labels(labels, given.get("data"))
        self.workspace = self.workspace.reopened(force)
        forget_addresses()
        with self._study(run, force, reading) as study:
            study.spec = self._file if method.names_models else study.spec
            study.share = share
            values_here = PythonValues(
                self.workspace.path / _GIVEN,
                labels,
                reading.bounds,
                lambda: None if method.names_models else study.model.preprocess,
            )
            typed = {
                field.keyword: values_here.typed(field, given[field.keyword])
                for field in known
                if field.keyword in given
            }
            typed["preset"] = given.get("preset")
            asked, settings = build(method, typed)
            one = method(study, asked, settings, page=True)
            carry_out(one, as_call(method.name, values))
            if study.share.is_apart:
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


def _bound(lens: Investigation, method: type[Method]) -> Any:
    """Make a method's callable: keywords, and what the command names by its place, too."""
    from cnnlens.methods.plugged import in_python

    placed = [field.keyword for field in _fields(method) if field.option.argument]
    name = in_python(method.name)

    def call(*given: Any, **values: Any) -> Any:
        if given and not placed:
            raise UsageError(f"{name} takes keywords alone", f"help(lens.{name})")
        with lens._alone():
            return lens._call(method, {**values, placed[0]: given} if given else values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(n, inspect.Parameter.VAR_POSITIONAL) for n in placed]
    parameters += [
        inspect.Parameter(f.keyword, keyword, default=f.default)
        for f in _fields(method)
        if f.keyword not in placed
    ]
    parameters.append(inspect.Parameter("force", keyword, default=False))
    call.__name__ = call.__qualname__ = name
    call.__doc__ = _documentation(method)
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _is_table(labels: Any, known: Sequence[Field]) -> bool:
    """Whether labels are a method's own, a table of units', and not those of images in memory."""
    own = any(field.keyword == "labels" for field in known)
    return own and isinstance(labels, (str, Path))


def _check_labels(labels: Any, data: Any) -> None:
    """Refuse labels that nothing would be done with."""
    if labels is not None and (data is None or isinstance(data, (str, Path))):
        raise UsageError(
            "labels= goes with images in memory", "those of a folder are its subfolders"
        )


def _fields(method: type[Method]) -> list[Field]:
    from cnnlens.methods.method import inputs_of, reading_of, run_of, settings_of

    own = [*inputs_of(method), *reading_of(method), *settings_of(method)]
    return [*own, *(f for f in run_of(method) if f.keyword != "device")]


def _documentation(method: type[Method]) -> str:
    lines = [f"    {f.keyword} : {f.option.help}" for f in _fields(method)]
    return "\n".join([inspect.getdoc(method) or "", "", "Keywords:", *lines])
