"""From a method's declared fields to a command: typer's signature, and the run behind it."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from cnnlens.cli.completion import completing
from cnnlens.cli.screen import Screen
from cnnlens.data.signed import hidden
from cnnlens.distributed import Share, join, processes
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods import methods, write_page
from cnnlens.methods.method import (
    Method,
    build,
    carry_out,
    inputs_of,
    reading_of,
    run_of,
    settings_of,
)
from cnnlens.methods.shares import show_share
from cnnlens.settings.base import presets_of_all
from cnnlens.settings.command import CommandSettings
from cnnlens.settings.option import Field, fields_of, values_of
from cnnlens.settings.run import DataSettings, ModelSettings, RunSettings

_WORKSPACE = Annotated[
    Path,
    typer.Argument(metavar="WORKSPACE", help="The workspace that the others are held against."),
]
_COMMON = {f.attribute: f for kind in (CommandSettings, RunSettings) for f in fields_of(kind)}


def common(*names: str) -> list[Field]:
    """Look up options that many commands have, as the settings declare them."""
    return [_COMMON[name] for name in names]


def command(method: type[Method]) -> Callable[..., None]:
    """Make the function that typer turns into a method's command."""

    def run(**values: Any) -> None:
        _run(method, values)

    run.__name__, run.__doc__ = method.name, inspect.getdoc(method)
    return _takes(run, signature(method))


def with_fields(*fields: Field) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that is no method the options of declared fields, after its annotated own.

    Those called json and quiet become its first argument, a `Screen`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(json: bool, quiet: bool, **values: Any) -> None:
            _check_alone(f"cnnlens {function.__name__.rstrip('_')}")
            function(Screen(json=json, quiet=quiet), **values)

        own = [
            _parameter(name, kind, inspect.signature(function).parameters[name].default)
            for name, kind in get_type_hints(function, include_extras=True).items()
            if hasattr(kind, "__metadata__")
        ]
        return _takes(run, [*own, *map(_of_field, fields)])

    return decorate


def _takes(
    function: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def signature(method: type[Method]) -> list[inspect.Parameter]:
    """List a command's parameters: what it looks at, its settings, output, model, run."""
    named = [_of_field(f) for f in inputs_of(method) if f.option.argument]
    inputs = [_of_field(f) for f in inputs_of(method) if not f.option.argument]
    in_presets = {n for kind in method.settings_types for p in kind.presets.values() for n in p}
    settings = [_of_field(field, field.attribute in in_presets) for field in settings_of(method)]
    presets = presets_of_all(method.settings_types)
    preset = f"A paper's settings: {', '.join(presets)}."
    force = _worded("force", f"Redo or overwrite; {method.forces}.")
    model, page, workspace = map(_of_field, common("model", "page", "workspace"))
    opened = method.opens_model
    if method.names_models:
        model = _worded("model", "The first checkpoint: a file, or any other form of MODEL.")
    return [
        model if opened else _parameter("workspace", _WORKSPACE, inspect.Parameter.empty),
        *named,
        *(one for one in inputs if _panel(one) == "What"),
        *map(_of_field, reading_of(method)),
        *([_worded("preset", preset, presets)] if presets else []),
        *(one for one in settings if _panel(one) != "Run"),
        *(one for one in inputs if _panel(one) != "What"),
        *([page] if method.sections and opened else []),
        *([workspace] if opened else []),
        *map(_of_field, common("json", "quiet")),
        force,
        *(_of_field(field) for field in fields_of(ModelSettings) if opened),
        *(one for one in settings if _panel(one) == "Run"),
        *(_of_field(field) for field in run_of(method)),
    ]


def _panel(parameter: inspect.Parameter) -> str:
    return str(parameter.annotation.__metadata__[0].rich_help_panel)


def _worded(name: str, words: str, values: Sequence[str] = ()) -> inspect.Parameter:
    """Make one of the `common` options with words of its own; `values`: all that it may be."""
    field = _COMMON[name]
    return _of_field(replace(field, option=replace(field.option, help=words)), values=values)


def _parameter(name: str, kind: Any, default: Any, info: Any = None) -> inspect.Parameter:
    for one in (info, *getattr(kind, "__metadata__", ())):
        if getattr(one, "metavar", None) and one.autocompletion is None:
            one.autocompletion = completing(one.metavar)
    annotation = kind if info is None else Annotated[kind, info]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def _of_field(
    field: Field, of_preset: bool = False, values: Sequence[str] = ()
) -> inspect.Parameter:
    """Make the option, or argument, of a field; one that a preset sets has the preset's default."""
    words, kind, default = field.option, cast("Any", field.type), field.default
    if field.repeats:
        kind = list[kind]  # type: ignore[valid-type]
    if field.repeats or field.optional or of_preset:
        kind, default = kind | None, None
    if words.argument:
        place = typer.Argument(metavar=field.metavar, help=words.help, show_default=False)
        return _parameter(field.keyword, kind, default, place)
    help_ = words.help
    if of_preset and not words.shown:
        help_ = f"{help_} Default: {_shown(field.default)}, or the preset's."
    elif words.shown:
        help_ = f"{help_} Default: {words.shown}."
    silent = field.repeats or field.default is None or of_preset or bool(words.shown)
    flag, metavar = field.flag, None if field.type is bool else field.metavar
    if field.type is bool:
        off = "" if words.off == "-" else f"/--{words.off or 'no-' + flag[2:]}"
        flag, silent = flag + off, silent or not off
    short = [f"-{words.short}"] if words.short else []
    info: Any = typer.Option(
        flag, *short, help=help_, metavar=metavar,
        show_default=not silent, rich_help_panel=words.panel,
        autocompletion=completing(values) if values else None,
    )  # fmt: skip
    return _parameter(field.keyword, kind, default, info)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _run(method: type[Method], values: dict[str, Any]) -> None:
    """Carry a command out: document first, tables, and the page last, which costs neither."""
    from cnnlens.study.session import Study
    from cnnlens.study.workspace import Workspace

    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    asked, settings = build(method, plain)
    screen, force = Screen(json=plain["json"], quiet=plain["quiet"]), plain["force"]
    space, model = Workspace(plain["workspace"], force), plain.get("model")
    opening = ModelSettings(**values_of(ModelSettings, plain))
    run = RunSettings(**values_of(RunSettings, plain))
    reading = DataSettings(**values_of(DataSettings, plain))
    share = _share(method, run)
    if not share.leads:
        screen.hush()
    study = Study(space, model, opening, run, screen, force, reading, share)
    one, line = method(study, asked, settings, plain.get("page", False)), command_line()
    if hidden(line) != line:
        screen.note("what follows '?' in an address opens it, and is neither shown nor kept")
    try:
        carry_out(one, line)
    except BaseException:
        with suppress(CnnlensError):  # what was finished stands on the page, too
            if one.page and one.summaries:
                screen.say(f"page: {write_page(space.path, screen)}")
        raise
    if not share.leads:
        return
    screen.document(one.document())
    if share.is_apart:
        show_share(screen, one.document(), space.path)
        return
    one.show(screen)
    if one.page:
        screen.say(f"page: {write_page(space.path, screen)}")
    if one.failed:
        raise one.failed[0]


def _share(method: type[Method], run: RunSettings) -> Share:
    """Find this process's share of a method's work, among those that torchrun started.

    Raises
    ------
    UsageError
        When there are several, and it is one process's.
    """
    if not method.shares:
        _check_alone(method.name)
    if "shard" not in method.uses:
        return Share()
    share = Share.parse(run.shard)
    if run.shard is None:
        return join()
    if processes() > 1:
        raise UsageError(
            "--shard is for batch systems without torchrun, whose processes share the work anyway",
            "leave one of them out",
        )
    return share


def _check_alone(name: str) -> None:
    if processes() > 1:
        shared = [n for n, method in methods().items() if method.shares]
        raise UsageError(
            f"{name} is one process's work, and torchrun started {processes()}",
            f"run it without torchrun; {', '.join(shared)} share theirs",
        )


def command_line() -> str:
    """Return the command line being carried out, as one would type it."""
    return shlex.join(["cnnlens", *sys.argv[1:]])
