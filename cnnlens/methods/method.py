"""What a method is: the one shape of every command, of every method of `Investigation`, and of its
part of the page.

A subclass says what it asks for (`asks`, `settings_types`), opens it (`resolve`), makes what is
missing (`work`), lists it (`close`), and shows it (`document`, `show`, `result`, `sections`). The
order in which that happens is `carry_out`'s, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cnnlens.errors import CnnlensError
from cnnlens.files.ledger import Item, Ledger
from cnnlens.methods.shares import note_command, refuse_force, share_summary
from cnnlens.progress import Step
from cnnlens.settings.base import Settings, build_all, fields_of_all
from cnnlens.settings.inputs import data_input, layers_input, store_option
from cnnlens.settings.option import Field, Option, fields_of, take_values, values_of
from cnnlens.settings.run import DataSettings, RunSettings
from cnnlens.voice import Results

if TYPE_CHECKING:
    from cnnlens.model.layer import Layer
    from cnnlens.report.blocks import Section
    from cnnlens.study.session import Study

SHARED = ("device", "batch_size", "workers", "seed")  # of `RunSettings`: every command takes them

# name of a section, and what gathers it from a workspace
Gather = tuple[str, Callable[[Path], "Section | None"]]


@dataclass(frozen=True)
class Inputs:
    """What a method asks for beside its settings; what its options say of values is checked."""

    def __post_init__(self) -> None:
        take_values(self)


@dataclass(frozen=True)
class LayersInputs(Inputs):
    """Which images, which layers."""

    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()


@dataclass(frozen=True)
class StoredInputs(LayersInputs):
    """Which images, which layers, and whether their activations are kept."""

    store: bool = store_option()


class Method:
    """One method; its docstring is its help, its first line the summary.

    Parameters
    ----------
    study : Study
        What it works on.
    asked : Inputs
        Of the type `asks`.
    settings : Settings or sequence of Settings
        Of the types `settings_types`.
    page : bool
        Whether pictures for the page are wanted.
    """

    name: ClassVar[str] = ""  # the command
    panel: ClassVar[str] = "Other methods"  # the heading it stands under in ``cnnlens --help``
    examples: ClassVar[tuple[str, ...]] = ()  # command lines for the end of its help
    asks: ClassVar[type[Inputs]] = Inputs  # a dataclass of fields declared by `option`
    #: its settings, and those of what it is made of
    settings_types: ClassVar[tuple[type[Settings], ...]] = ()
    #: what of `RunSettings` it depends on; it takes all of `SHARED`
    uses: ClassVar[tuple[str, ...]] = ("device", "batch_size", "workers", "precision")
    several: ClassVar[str] = "layers"  # what its summaries are of
    #: whether its layers may be vectors (fully connected ones, class tokens), too
    vectors: ClassVar[bool] = False
    sections: ClassVar[tuple[Gather, ...]] = ()  # its parts of the page
    #: whether it works on the workspace's model; else it works on finished workspaces, of which
    #: the first is named in MODEL's place, and leaves them as they are
    opens_model: ClassVar[bool] = True
    #: whether its arguments name all networks that it works on: in Python, too, where an
    #: investigation has one of its own
    names_models: ClassVar[bool] = False
    #: whether the workspace then knows model, data and command; else it is left as it is
    remembers: ClassVar[bool] = True
    #: what sees whether it is defined for a network, on an image of noise: an option ("": none),
    #: then functions of a model and of what gives its layers; each says what is assumed, or raises
    probes: ClassVar[tuple[tuple[str, ...], ...]] = (("", "activations.sources.probe"),)
    #: whether processes that torchrun starts share its work; else it is one process's
    shares: ClassVar[bool] = False
    #: what ``--force`` does beside redoing
    forces: ClassVar[str] = "clear the workspace's results of another model"

    def __init__(
        self, study: Study, asked: Any = None, settings: Any = None, page: bool = True
    ) -> None:
        self.study, self.page = study, page
        self.asked: Any = self.asks() if asked is None else asked
        given = settings if isinstance(settings, tuple) else (settings,) if settings else ()
        self.all_settings: tuple[Any, ...] = given or tuple(t() for t in self.settings_types)
        self.settings: Any = self.all_settings[0] if self.all_settings else None
        self.summaries: dict[str, Any] = {}
        self.failed: list[CnnlensError] = []

    # ---- what a method says

    def resolve(self) -> None:
        """Open and look up everything that was named; raise before anything is written."""

    def plan(self) -> str:
        """Say what is about to be done, where that may take long; empty: nothing to say."""
        return ""

    def fill(self) -> Iterator[Step]:
        """Compute activations that are missing, this process's share of them."""
        return iter(())

    def work(self) -> Iterator[Step]:
        """Make what is missing, step by step."""
        return iter(())

    def assist(self) -> Iterator[Step]:
        """Do this process's part of `work`, which is the first one's."""
        return self.fill()

    def close(self) -> None:
        """List what was made; called after an interrupt, too."""

    images: Any  # of a method whose processes share the work: what is computed
    layers: Any

    def document(self) -> Any:
        """Return the summary file: one layer's as it is, several under ``layers`` (`several`)."""
        one: Any = next(iter(self.summaries.values()), {})
        return one if len(self.summaries) == 1 else {self.several: self.summaries}

    def show(self, results: Results) -> None:
        """Show what was found."""

    def result(self) -> Any:
        """Return what Python gets: one layer's result, or several by layer."""
        return self.document()

    # ---- what methods share

    def detected(self, layer: Layer) -> dict[int, str]:
        """Say what a layer's units detect, as far as it was dissected."""
        from cnnlens.report.dissect_files import detected

        return detected(self.study.workspace.path, layer.folder)

    def of_layers(self, found: Mapping[str, Any]) -> Any:
        """Return one layer's result where one was named, else all by layer."""
        return found if len(self.asked.layer) > 1 else next(iter(found.values()))

    def missing(
        self, ledger: Ledger, items: Sequence[Item], noun: str = "picture", where: str = ""
    ) -> list[Item]:
        """Return what is still to be made; what is there already is said."""
        todo = ledger.missing(items)
        if done := len(items) - len(todo):
            were = f"{noun} was" if done == 1 else f"{noun}s were"
            self.study.voice.note(
                f"{where}{': ' if where else ''}{done} {were} made before with these settings "
                "(--force redoes them)"
            )
        return todo


def carry_out(method: Method, command: str = "") -> None:
    """Run a method: resolve or raise, commit, make and keep, close, record.

    Raises
    ------
    CnnlensError
        For what was named wrongly, before anything is written; for what fails on the way, after
        everything else was made.
    """
    study = method.study
    if study.share.is_apart and study.force:
        raise refuse_force()
    method.resolve()
    if not (method.opens_model and method.remembers):
        _make(method, command)
        return
    known = _class_names(study)
    with study.committed():
        _make(method, command)
        if study.share.leads:
            study.record(command, method.name)
            if known and known != _class_names(study):
                _say_renamed(study)


def _make(method: Method, command: str) -> None:
    """Make what is missing, and list it."""
    study, share = method.study, method.study.share
    if plan := method.plan():
        study.voice.note(plan)
    for _ in share.wait():  # all have seen what is missing before the first one makes it
        pass
    whole = share.leads and not share.is_apart
    if share.is_apart:
        note_command(study, method.images, method.layers, command)
    work = method.work if whole else method.fill if share.is_apart else method.assist
    try:
        with study.voice.progress() as bars, closing(_generator(work())) as steps:
            for step in steps:
                bars.show(step)
    except BaseException:
        with suppress(CnnlensError):  # the first error is the one to hear of
            if whole:
                method.close()
        raise
    if whole:
        method.close()
    elif share.is_apart:
        method.summaries = {"share": share_summary(study, method.images, method.layers)}


def _class_names(study: Study) -> list[str] | None:
    found: list[str] | None = (study.workspace.document.get("model") or {}).get("classes")
    return found


def _say_renamed(study: Study) -> None:
    """Say which results bear the names that the network's classes had before."""
    from cnnlens.report.states import renamed

    for one in renamed(study.workspace.path):
        study.voice.note(one.text)


def _generator(steps: Iterator[Step]) -> Any:
    yield from steps


def page_part(name: str) -> Callable[[Path], Section | None]:
    """Name what gathers a part of the page: a function of `cnnlens.report`, with its module.

    It is loaded when a page is written.
    """
    module, _, function = name.rpartition(".")

    def gather(workspace: Path) -> Section | None:
        found: Callable[[Path], Section | None]
        found = getattr(import_module(f"cnnlens.report.{module}"), function)
        return found(workspace)

    return gather


# ---- what the faces read


def inputs_of(method: type[Method]) -> list[Field]:
    """Fields of what a method asks for."""
    return fields_of(method.asks)


def settings_of(method: type[Method]) -> list[Field]:
    """Fields of a method's settings; of equal flags the first one's."""
    return fields_of_all(method.settings_types)


def run_of(method: type[Method]) -> list[Field]:
    """Fields of `RunSettings` that a method takes, those of its own settings aside."""
    own = {field.flag for field in (*inputs_of(method), *settings_of(method))}
    return [field for field in running(method.uses) if field.flag not in own]


def running(uses: Sequence[str]) -> list[Field]:
    """Fields of `RunSettings` that a command takes: those it `uses`, and those that all take, so
    that one set of options serves a script's every line.
    """
    known = (f for f in fields_of(RunSettings) if f.attribute in (*uses, *SHARED))
    return [f if f.attribute in uses else replace(f, option=_idle(f.option)) for f in known]


def _idle(option: Option) -> Option:
    words = option.help.split(";")[0].removesuffix(".")
    return replace(option, help=f"{words}; taken as elsewhere, nothing here depends on it.")


def reading_of(method: type[Method]) -> list[Field]:
    """Fields of `DataSettings` that a method depends on: those of data, or of images alone."""
    asked = {field.keyword for field in inputs_of(method)}
    known = fields_of(DataSettings)
    if "data" in asked:
        return known
    return [f for f in known if f.attribute == "range" and asked & {"image", "content"}]


def build(method: type[Method], values: Mapping[str, Any]) -> tuple[Inputs, tuple[Settings, ...]]:
    """Build inputs and settings from values by keyword; None means the default.

    Raises
    ------
    UsageError
        For a value that does not fit.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return method.asks(**values_of(method.asks, given)), build_all(method.settings_types, given)
