"""From a method's declared fields to a command: typer's signature, the run behind it, its help."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

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
from cnnlens.settings.command import CommandSettings
from cnnlens.settings.option import Field, fields_of, values_of
from cnnlens.settings.run import (
    DataSettings,
    ModelSettings,
    RunSettings,
    presets_of_all,
)

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
    presets = ", ".join(presets_of_all(method.settings_types))
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
        *([_worded("preset", f"A paper's settings: {presets}.")] if presets else []),
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


def _worded(name: str, words: str) -> inspect.Parameter:
    """Make one of the `common` options with words of its own."""
    field = _COMMON[name]
    return _of_field(replace(field, option=replace(field.option, help=words)))


def _parameter(name: str, kind: Any, default: Any, info: Any = None) -> inspect.Parameter:
    annotation = kind if info is None else Annotated[kind, info]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def _of_field(field: Field, of_preset: bool = False) -> inspect.Parameter:
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


# ---- help that can be read: options under headings, examples at the end, no boxes


#: options that name what a command works on, of which some commands take several
NAMING = ("--data", "--negatives", "--layer", "--filter", "--image")


class CarefulCommand(TyperCommand):
    """A command that drops no word of its line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Notice an option whose value was left out before it swallows the next option."""
        known = {flag: p for p in self.get_params(ctx) for flag in (*p.opts, *p.secondary_opts)}
        for number, word in enumerate(args):
            following = args[number + 1] if number + 1 < len(args) else None
            parameter = known.get(word)
            if parameter is None or getattr(parameter, "is_flag", False) or word == "--":
                continue
            if not word.startswith("-") or (following is not None and following not in known):
                continue
            ctx.fail(f"{word} has no value: write {word} {parameter.metavar or 'VALUE'}")
        if not ctx.resilient_parsing:  # else a shell asks how a line may go on
            self._check_repeats(ctx, args)
        return super().parse_args(ctx, args)

    def _check_repeats(self, ctx: Any, args: list[str]) -> None:
        """Notice what names things, and takes one, but is given several: all but the last would go.

        Of settings the last one counts, so that a script's can be changed behind them.
        """
        _, _, order = self.make_parser(ctx).parse_args([*args])
        for parameter, count in Counter(order).items():
            # an argument has neither
            often = getattr(parameter, "multiple", True) or getattr(parameter, "is_flag", True)
            flag = max(parameter.opts, key=len)
            if count > 1 and not often and flag in NAMING:
                ctx.fail(f"{flag} is given {count} times and takes one value: give it once")


class GroupedCommand(CarefulCommand):
    """A command whose options stand under the headings they were declared for."""

    examples: tuple[str, ...] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section per heading, then the examples."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and parameter.param_type_name == "argument":
                record = (parameter.metavar or str(parameter.name).upper(), record[1])
            if record is not None:
                rows.setdefault(_heading(parameter), []).append(record)
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _heading(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    if panel is None:
        return "Arguments" if parameter.param_type_name == "argument" else "Help"
    return str(panel)


def with_examples(examples: Iterable[str]) -> type[GroupedCommand]:
    """Make the class of a command that has examples."""
    return type("GroupedCommand", (GroupedCommand,), {"examples": tuple(examples)})


class GroupedCommands(TyperGroup):
    """Commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section per heading; a summary fits its line whole."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            one = self.get_command(ctx, name)
            if one is not None and not one.hidden:
                panel = getattr(one, "rich_help_panel", None) or "Commands"
                rows.setdefault(str(panel), []).append((name, _summary(one)))
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _summary(command: Any) -> str:
    """First line of a command's help, whole."""
    return str((command.help or "").strip().split("\n\n")[0]).replace("\n", " ").rstrip(".")


# options that mean nearly the same to different commands
_SISTERS = {
    **{"-l": "-f", "--layer": "--filter", "-f": "-l", "--filter": "--layer"},
    **{"-i": "-d", "--image": "--data", "-d": "-i", "--data": "--image"},
    **{"--unit": "--filter", "--units": "--filter", "--images": "--image", "--layers": "--layer"},
    **{"--class": "--logit", "--logit": "--class", "-o": "--out", "--output": "--out"},
}


def sister(error: Any) -> str:
    """Name the option of this command that a wrong one probably meant; empty where none does."""
    context, wrong = getattr(error, "ctx", None), getattr(error, "option_name", None)
    meant = _SISTERS.get(str(wrong))
    if context is None or meant is None:
        return ""
    for parameter in context.command.get_params(context):
        if meant in parameter.opts:
            value = f" {parameter.metavar}" if parameter.metavar else ""
            return f"`{context.command_path}` takes {meant}{value}"
    return ""
