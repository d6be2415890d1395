"""The door: commands by name, and every error as one clear line with an exit status."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import warnings
from functools import cache
from typing import Any

import typer

from cnnlens.cli import services
from cnnlens.cli.data_sets import data
from cnnlens.cli.demo import demo
from cnnlens.cli.grouped import GroupedCommands, sister, with_examples
from cnnlens.cli.join import join
from cnnlens.cli.options import command
from cnnlens.cli.screen import report_error, results_apart
from cnnlens.distributed import GOES_ON, leave, processes, speaks
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import using_error
from cnnlens.methods import faults, methods
from cnnlens.voice import PLAIN, drop, write_line

# commands that are no method, and their headings
_SERVICES = (
    (services.layers, "Find your way"),
    (services.report, "Results"),
    (services.search, "Results"),
    (join, "Find your way"),
    (demo, "Find your way"),
)
# headings in the order in which the help shows them
_PANELS = (
    *("Find your way", "Measure units", "Look at units", "Look at images", "Look at a layer"),
    *("Train", "Results"),
)

app = typer.Typer(
    name="cnnlens",
    cls=GroupedCommands,
    help="""What have the filters of a trained CNN learned?

    `cnnlens demo` shows everything on a synthetic set; `cnnlens dissect model.pt --broden` asks
    your own model. Results go to a workspace, a folder that remembers model and data.
    """,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"cnnlens {version('cnnlens')}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show where in the code an error arose; may stand anywhere."
    ),
) -> None:
    """Take what stands before a command."""


def _register() -> None:
    """Give every service and every method its command, under its heading."""
    found: list[tuple[str, str, Any, tuple[str, ...]]]
    found = [(panel, function.__name__, function, ()) for function, panel in _SERVICES]
    found += [(m.panel, name, command(m), m.examples) for name, m in methods().items()]
    panels = dict.fromkeys([*_PANELS, *(panel for panel, *_ in found)])
    for panel, name, function, examples in sorted(found, key=lambda one: [*panels].index(one[0])):
        app.command(name, cls=with_examples(examples), rich_help_panel=panel)(function)
    app.add_typer(data, name="data", rich_help_panel=_PANELS[0])


_register()


_INTERRUPTED = 130
_heard: list[int] = []  # signals that came to end this process


class Terminated(BaseException):
    """A signal that ends the process, met as Ctrl-C is: what is half-written vanishes.

    Like `KeyboardInterrupt`, it is no `Exception`, so that nobody catches it as an error.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


_INTERRUPTS = (KeyboardInterrupt, typer.Abort, Terminated)

# libraries whose warnings say nothing to who looks at a model; a user's own code may still warn
_WARNERS = ("PIL", "torch", "torchvision", "timm", "numba", "h5py", "matplotlib", "sklearn")


def main() -> None:
    """Run the command line; turn errors into a line, a hint and an exit status."""
    arguments = [_with_host(a) for a in sys.argv[1:] if a != "--debug"]  # wherever it stands
    debug = len(arguments) < len(sys.argv) - 1
    _listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else None: closed
            stream.reconfigure(errors=PLAIN)
    if not debug and not sys.warnoptions:
        warnings.filterwarnings("ignore", module=rf"({'|'.join(_WARNERS)})(\.|$)")
        warnings.filterwarnings("ignore", message=r".*Triggered internally at")  # torch, from C++
    status = _run(arguments, debug)
    with contextlib.suppress(*_INTERRUPTS):  # told to end while it ends
        leave()
    _insist(0)
    sys.exit(status)


def _with_host(argument: str) -> str:
    """Name the host that HDFS takes where none is named: a path would lose a slash of three."""
    return argument.replace("hdfs:///", "hdfs://default/")


def _listen() -> None:
    """Meet the signals that end a process, unless whoever started it has them ignored."""
    sys.unraisablehook = _said_elsewhere
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        usual = (signal.SIG_DFL, signal.default_int_handler)
        if number is not None and signal.getsignal(number) in usual:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: object) -> None:
    _heard.append(number)
    _insist(_PATIENCE)
    raise Terminated(number)


_PATIENCE = 1.0  # seconds after which a signal that had no effect is met again


def _insist(seconds: float) -> None:
    """Look again and again whether what was raised has been heard; 0: no longer."""
    if hasattr(signal, "setitimer") and _heard:
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _again(number: int, frame: object) -> None:
    """Raise once more what a callback of C or a destructor has swallowed.

    Who is handling an error already is on the way out, or tidies up: that is left in peace.
    """
    if sys.exc_info()[0] is None:
        raise Terminated(_heard[0])


def _said_elsewhere(unraisable: Any) -> None:
    """Report errors that nobody can catch, but for a signal's: that is met again."""
    if not isinstance(unraisable.exc_value, Terminated):
        sys.__unraisablehook__(unraisable)


@cache
def _command() -> Any:  # click's, or what typer has of it
    return typer.main.get_command(app)


def _run(arguments: list[str], debug: bool = False) -> int:
    try:
        for fault in faults:
            write_line(sys.stderr, f"note: {fault.message} ({fault.hint})", style="dim")
        _check_completion(arguments)
        with results_apart():
            result = _command()(arguments, prog_name="cnnlens", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can be answered
        if result == _INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            import traceback

            traceback.print_exc()
        # code in C that is interrupted may make any other error of it
        return _answer(Terminated(_heard[0]) if _heard else error)


def _check_completion(arguments: list[str]) -> None:
    """Refuse a shell's name, which would be passed over: completion is of the shell around."""
    if arguments[:1] == ["--install-completion"] and len(arguments) > 1:
        raise UsageError(
            "--install-completion is for the shell that it is run in, and takes no name",
            f"run it in {arguments[1]}: cnnlens --install-completion",
        )


def _answer(error: BaseException) -> int:
    """Say what went wrong; return the exit status."""
    # typer turns it into SystemExit
    piped = any(isinstance(one, BrokenPipeError) for one in (error, error.__context__))
    if piped and not isinstance(error, (CnnlensError, *_INTERRUPTS)):
        drop(sys.stdout)
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if type(error).__name__ == "NoArgsIsHelpError":  # typer's or click's; its message is the help
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        return _status(error)
    if speaks():  # of several processes that end, the first that knows why
        report_error(*_in_words(error))
    return _status(error)


def _status(error: BaseException) -> int:
    usual = _INTERRUPTED if isinstance(error, _INTERRUPTS) else 1
    return int(getattr(error, "exit_code", usual))


def _in_words(error: Any) -> tuple[str, str]:
    """Say in a line what went wrong, and the way out."""
    if isinstance(error, CnnlensError):
        return error.message, error.hint
    if isinstance(error, Terminated) and processes() > 1:
        return "this run was told to stop, or one of its processes has ended", GOES_ON
    if isinstance(error, _INTERRUPTS):
        same = "the same command" + (" without --force" if "--force" in sys.argv else "")
        return "interrupted", f"what was finished is kept; {same} resumes"
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's usage errors
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cnnlens"
        return error.format_message(), sister(error) or f"`{path} --help` says what fits"
    if isinstance(error, MemoryError):
        return "not enough memory", "try a smaller --batch-size, fewer layers or --no-store"
    if isinstance(error, OSError) and (known := using_error(error)):
        if not error.filename:
            drop(sys.stdout)
        return known.message, known.hint
    first = (str(error).strip().splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first}", "--debug shows where it arose"
