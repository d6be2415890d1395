"""From a method's declared fields to a command: typer's signature, and the run behind it."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.methods.method import (
    Method,
    build,
    carry_out,
    inputs_of,
    presets_of,
    run_of,
    settings_of,
)
from cnnlens.settings.option import Field, fields_of
from cnnlens.settings.run import ModelSettings, RunSettings

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="What to open: a checkpoint (.pt .pth .ckpt .safetensors .pt2), "
        "torchvision:NAME[@WEIGHTS], timm:NAME, zoo:NAME, file.py:factory or "
        "package.module:factory. Left out: the workspace's model.",
        show_default=False,
    ),
]
WorkspaceArgument = Annotated[
    Path,
    typer.Argument(metavar="WORKSPACE", help="The workspace that the others are held against."),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        help="Folder of this investigation. Default: $CNNLENS_WORKSPACE, else ./cnnlens-out.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
PageOption = Annotated[
    bool, typer.Option("--page/--no-page", help="Write the page.", rich_help_panel="Output")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print exactly one JSON document on standard output and nothing else.",
        rich_help_panel="Output",
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress or tables.", rich_help_panel="Output"),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Redo or overwrite; clear the workspace's results of another model.",
        rich_help_panel="Output",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--force", help="Redo or overwrite.", rich_help_panel="Output")
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, metavar="N", help="Seed of everything random.", rich_help_panel="Run"
    ),
]
_PRESET = "A paper's settings: {}."


def command(method: type[Method]) -> Callable[..., None]:
    """Make the function that typer turns into a method's command."""

    def run(**values: Any) -> None:
        _run(method, values)

    run.__name__, run.__doc__ = method.name, inspect.getdoc(method)
    return _takes(run, signature(method))


def with_fields(*fields: Field) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that is no method the options of declared fields, as further keywords."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [
            _parameter(p.name, hints[p.name], p.default)
            for p in inspect.signature(function).parameters.values()
            if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        return _takes(function, [*own, *map(_of_field, fields)])

    return decorate


def _takes(
    function: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def signature(method: type[Method]) -> list[inspect.Parameter]:
    """List a command's parameters: what it looks at, its settings, output, model, run."""
    presets = presets_of(method)
    more = []
    if presets:
        text = _PRESET.format(", ".join(presets))
        more = [_parameter("preset", str, "default", _typer("--preset", help=text, metavar="NAME"))]
    inputs = [_of_field(f) for f in inputs_of(method) if not f.option.argument]
    preset = {name for kind in method.settings_types for p in kind.presets.values() for name in p}
    settings = [_of_field(field, field.attribute in preset) for field in settings_of(method)]
    force = _typer("--force", help=f"Redo or overwrite; {method.forces}.", panel="Output")
    model, workspace = (
        (
            [_parameter("model", ModelArgument, None)],
            [_parameter("workspace", WorkspaceOption, None)],
        )
        if method.opens_model
        else ([_parameter("workspace", WorkspaceArgument, inspect.Parameter.empty)], [])
    )
    return [
        *model,
        *(_of_argument(field) for field in inputs_of(method) if field.option.argument),
        *(one for one in inputs if _panel(one) == "What"),
        *more,
        *(one for one in settings if _panel(one) != "Run"),
        *(one for one in inputs if _panel(one) != "What"),
        *([_parameter("page", PageOption, True)] if method.sections and method.opens_model else []),
        *workspace,
        _parameter("json", JsonOption, False),
        _parameter("quiet", QuietOption, False),
        _parameter("force", bool, False, force),
        *(_of_field(field) for field in fields_of(ModelSettings) if method.opens_model),
        *(one for one in settings if _panel(one) == "Run"),
        *(_of_field(field) for field in run_of(method)),
    ]


def _panel(parameter: inspect.Parameter) -> str:
    return str(parameter.annotation.__metadata__[0].rich_help_panel)


def _typer(*names: str, panel: str = "Method", **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


def _parameter(name: str, kind: Any, default: Any, info: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=kind if info is None else Annotated[kind, info],
    )


def _of_field(field: Field, of_preset: bool = False) -> inspect.Parameter:
    """Make the option of a field; where a preset sets it, its default is the preset's."""
    words = field.option
    kind: Any = field.type
    default = field.default
    if field.repeats:
        kind, default = list[kind], None
    help_ = words.help
    if of_preset and not words.shown:
        help_ = f"{help_} Default: {_shown(field.default)}, or the preset's."
    elif words.shown:
        help_ = f"{help_} Default: {words.shown}."
    silent = field.repeats or field.default is None or of_preset or bool(words.shown)
    if field.type is bool:
        off = "" if words.off == "-" else f"/--{words.off or 'no-' + field.flag[2:]}"
        flags, metavar = [field.flag + off], {}
        silent = silent or not off
    else:
        flags, metavar = [field.flag], {"metavar": field.metavar}
    if words.short:
        flags.append(f"-{words.short}")
    if field.repeats or field.optional or of_preset:
        kind, default = kind | None, None
    info = _typer(*flags, panel=words.panel, help=help_, show_default=not silent, **metavar)
    return _parameter(field.keyword, kind, default, info)


def _of_argument(field: Field) -> inspect.Parameter:
    """Make the argument of a field that may be left out."""
    info = typer.Argument(metavar=field.metavar, help=field.option.help, show_default=False)
    kind: Any = list[field.type] if field.repeats else field.type  # type: ignore[name-defined]
    return _parameter(field.keyword, kind | None, None, info)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _run(method: type[Method], values: dict[str, Any]) -> None:
    """Carry a command out: document first, tables, and the page last, which costs neither."""
    from cnnlens.study.session import Study
    from cnnlens.study.workspace import Workspace

    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    asked, settings = build(method, plain)
    opening = ModelSettings(
        **{f.attribute: plain[f.keyword] for f in fields_of(ModelSettings) if f.keyword in plain}
    )
    run = RunSettings(
        **{f.attribute: plain[f.keyword] for f in fields_of(RunSettings) if f.keyword in plain}
    )
    screen = Screen(json=plain["json"], quiet=plain["quiet"])
    space = Workspace(plain["workspace"], plain["force"])
    study = Study(space, plain.get("model"), opening, run, screen, plain["force"])
    one = method(study, asked, settings, plain.get("page", False))
    try:
        carry_out(one, command_line())
    except BaseException:
        with suppress(CnnlensError):  # what was finished stands on the page, too
            if one.page and one.summaries:
                screen.say(f"page: {write_page(space.path, screen)}")
        raise
    screen.document(one.document())
    one.show(screen)
    if one.page:
        screen.say(f"page: {write_page(space.path, screen)}")
    if one.failed:
        raise one.failed[0]


def write_page(workspace: Path, screen: Screen) -> Path:
    """Write the page over everything in a workspace; say what it lacks."""
    from cnnlens.methods import sections
    from cnnlens.report.page import write_report

    def tell(fault: CnnlensError) -> None:
        screen.note(f"not on the page: {fault.message}")

    return write_report(workspace, sections(), tell)


def command_line() -> str:
    """Return the command line being carried out, as one would type it."""
    return shlex.join(["cnnlens", *sys.argv[1:]])
