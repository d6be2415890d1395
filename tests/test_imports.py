"""The arrows between the rooms, what stays light, and what is documented: read from the code."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision

import cnnlens
from cnnlens.data.synthetic import make_shapes
from cnnlens.methods import Method
from tests import bare
from tests.cli import runner

HOUSE = Path(cnnlens.__file__).parent

# from the roof to the ground: a room may use those on floors below its own, and its neighbours
# where that is said; on one floor, rooms do not know each other
FLOORS = (
    ("cli",),
    ("methods",),
    ("study", "report"),
    ("measure", "synthesize", "attribution", "cluster", "interpretable"),
    ("activations",),
    ("data", "model"),
    ("voice",),
    ("settings", "files", "progress"),
    ("distributed",),
    ("errors",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# data knows how a network wants its pixels, marks what is in memory as networks are marked, keeps
# what labels that are numbers mean, and reads what may ask for the network; an explanation begins
# with the class that is predicted, and where on the image that was seen; the Python face is a door
# like the command line, and leads to every method
ALLOWED = {
    ("data", "model.preprocess"),
    ("data", "model.definition"),
    ("data", "model.numbered"),
    ("data", "model.alone"),
    ("cluster", "attribution.cam"),
    ("study.investigation", "methods"),
    ("study.python_method", "methods"),
}
DOOR = {"__init__", "__main__"}  # they lead everywhere


@cache
def modules() -> list[str]:
    names = (path.relative_to(HOUSE).with_suffix("") for path in HOUSE.rglob("*.py"))
    return sorted(".".join(name.parts) for name in names)


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse((HOUSE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


@cache
def imports(module: str) -> list[str]:
    """All modules that a module imports, in functions too, those for types only excepted."""
    return list(_imports(module, parsed(module)))


def _imports(module: str, tree: ast.Module) -> Iterator[str]:
    typing = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    skipped = {id(inner) for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    return name.partition(".")[0]


def wrong_arrows(module: str, imported: Iterable[str]) -> list[str]:
    here = FLOOR.get(room(module))
    wrong = []
    for name in imported:
        if not name.startswith("cnnlens."):
            continue
        inner = name.removeprefix("cnnlens.")
        if room(inner) == room(module) or any(
            a in (module, room(module)) and inner.startswith(b) for a, b in ALLOWED
        ):
            continue
        if here is None or room(inner) not in FLOOR or FLOOR[room(inner)] <= here:
            wrong.append(f"{module} -> {inner}")
    return wrong


def test_no_arrow_runs_back_up():
    inside = [m for m in modules() if m.split(".")[-1] not in DOOR or "." in m]
    assert len(inside) > 50
    assert [arrow for m in inside for arrow in wrong_arrows(m, imports(m))] == []


def test_the_arrows_are_seen():
    assert wrong_arrows("data.folder", iter(["cnnlens.measure.top.TopImages"]))
    assert wrong_arrows("measure.top", iter(["cnnlens.report.page.write_report"]))
    assert wrong_arrows("study.workspace", iter(["cnnlens.cli.screen.Screen"]))
    assert wrong_arrows("report.page", iter(["cnnlens.methods.cam.Cam"]))
    assert wrong_arrows("data.folder", iter(["cnnlens.model.open.open_model"]))
    assert not wrong_arrows("cli.services", iter(["cnnlens.report.page.write_report"]))


def inner(name: str, known: set[str]) -> str:
    """The module of the house that an imported name lives in; empty for what is no module."""
    name = name.removeprefix("cnnlens.")
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Modules that lead back to themselves, whatever the way."""
    rest = {module: set(to) & set(arrows) for module, to in arrows.items()}
    # take away what nothing leads to, and what leads nowhere, as long as there is such a module
    while True:
        reached = set().union(*rest.values()) if rest else set()
        kept = {m: to & rest.keys() for m, to in rest.items() if m in reached and to & rest.keys()}
        if kept == rest:
            return [[m, *sorted(to)] for m, to in sorted(kept.items())]
        rest = kept


def test_no_module_imports_itself_in_a_circle():
    known = {m for m in modules() if m.split(".")[-1] not in DOOR}
    arrows = {
        m: {inner(name, known) for name in imports(m) if name.startswith("cnnlens.")} - {"", m}
        for m in known
    }
    assert sum(map(len, arrows.values())) > 300
    assert circles(arrows) == []


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"a"}})


def test_arithmetic_knows_no_files_screens_or_command_line():
    barred = (
        "typer",
        "click",
        "rich",
        "h5py",
        "hdf5plugin",
        "pandas",
        "json",
        "csv",
        "cnnlens.files",
    )
    science = next(rooms for rooms in FLOORS if "measure" in rooms)
    arithmetic = [m for m in modules() if room(m) in science or m == "model.preprocess"]
    assert "measure.iou" in arithmetic
    found = [f"{m} -> {name}" for m in arithmetic for name in imports(m) if name.startswith(barred)]
    assert found == []


def test_only_the_command_line_prints():
    printing = []
    for module in modules():
        if room(module) == "cli":
            continue
        tree = parsed(module)
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        printing += [module for f in calls if isinstance(f, ast.Name) and f.id == "print"]
    assert printing == []


def test_typer_stays_in_the_command_line():
    users = {room(m) for m in modules() for name in imports(m) if room(name) in ("typer", "rich")}
    assert users == {"cli", "voice"}  # notes and bars are said by a run, results by the screen


HEAVY = ("torch", "torchvision", "h5py", "matplotlib", "numba", "pandas", "scipy", "PIL", "numpy")
PROBE = """
import sys, contextlib, io
{code}
print("loaded:", *[name for name in {heavy!r} if name in sys.modules])
"""


def loaded(code: str) -> str:
    probe = PROBE.format(code=code, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def loaded_beside_torch(code: str, *names: str) -> str:
    done = bare.run(PROBE.format(code=code, heavy=names))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_import_and_help_load_nothing_heavy():
    assert loaded("import cnnlens; dir(cnnlens)") == "loaded:"
    helps = """
from cnnlens.cli.app import _run, app
import typer.main
group = typer.main.get_command(app)
lines = [[name] for name in group.commands]
lines += [["data", name] for name in group.commands["data"].commands]
assert len(lines) >= 9
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert _run(["--help"]) == 0
    for line in lines:
        assert _run([*line, "--help"]) == 0
assert out.getvalue().count("Usage:") == 1 + len(lines)
assert _run(["disect"]) == 2
"""
    assert loaded(helps) == "loaded:"


def test_a_command_loads_no_more_than_it_needs(tmp_path):
    data = make_shapes(tmp_path / "shapes", 6)
    of = ["zoo:demo_net", "-w", str(tmp_path), "-q"]
    made = ["units", *of, "-d", str(data), "-l", "conv2", "--no-page"]
    assert runner.cnnlens(*made).code == 0
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "net.pt")
    known = ["layers", str(tmp_path / "net.pt"), "-w", str(tmp_path / "other"), "-q"]
    ascent = ["visualize", *of[:2], str(tmp_path / "seen"), "-q", "-f", "conv2:0", "--no-page"]
    code = f"""
from cnnlens.model.compiler_later import put_off
from cnnlens.cli.app import _run
put_off()
with contextlib.redirect_stdout(io.StringIO()):
    assert _run({known!r}) == 0
    assert _run({made!r}) == 0  # what is there is read and printed
    assert "matplotlib" not in sys.modules
    assert _run({[*ascent, "--steps", "2"]!r}) == 0  # by an optimizer; a sheet has letters
"""
    # the compiler is as large as all the rest; what draws and what clusters take a second together
    much = ("torch._dynamo.eval_frame", "matplotlib", "scipy.stats", "scipy.cluster", "sklearn")
    assert loaded_beside_torch(code, "torchvision", *much) == "loaded: torchvision matplotlib"


def test_probe_sees_what_is_loaded():
    assert "numpy" in loaded("import numpy")


@pytest.mark.parametrize("name", cnnlens.__all__)
def test_public_names_resolve_and_are_documented(name):
    found = getattr(cnnlens, name)
    assert name in dir(cnnlens)
    assert (found.__doc__ or "").strip()


def test_unknown_names_are_unknown():
    with pytest.raises(AttributeError, match="nonsense"):
        cnnlens.nonsense  # noqa: B018


@pytest.mark.parametrize("module", modules())
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(parsed(module))


def commands() -> Iterator[tuple[str, object]]:
    import typer.main

    from cnnlens.cli.app import app

    waiting = [("cnnlens", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        yield name, command
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {key}", value) for key, value in inner.items()]


def test_every_command_and_option_has_a_help_text():
    silent = []
    for name, command in commands():
        silent += [] if command.help else [name]
        for parameter in command.params:
            silent += [] if getattr(parameter, "help", None) else [f"{name} {parameter.name}"]
    assert silent == []


# what seems the same option but decides a result, where others only run by it
OTHERWISE = {("cnnlens finetune", "--batch-size")}
SHARED = {
    *("--workspace", "--arch", "--allow-pickle", "--image-size", "--mean", "--std", "--device"),
    *("--batch-size", "--workers", "--seed", "--json", "--quiet", "--force", "--raw"),
}


def test_options_that_commands_share_have_the_same_words_everywhere():
    words: dict[str, set[str]] = {}
    for name, command in commands():
        for parameter in command.params:
            for flag in parameter.opts:
                if flag in SHARED and (name, flag) not in OTHERWISE:
                    words.setdefault(flag, set()).add(str(parameter.help).split(";")[0].strip("."))
    assert set(words) == SHARED
    assert {flag: texts for flag, texts in words.items() if len(texts) > 1} == {}


def test_every_command_file_is_registered():
    """A method with a name is a command; so is a function of its file's name at the door."""
    registered = {name.split()[1] for name, _ in commands() if " " in name}
    methods = {path.stem for path in (HOUSE / "methods").glob("*.py")}
    services, of_data = set(), set()
    for path in (HOUSE / "cli").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and "with_fields" in ast.dump(node):
                below = "'data'" in "".join(map(ast.dump, node.decorator_list))
                (of_data if below else services).add(node.name.rstrip("_"))
    services.remove("with_fields")
    assert {"demo", "layers", "report"} <= services
    assert registered - methods == {*services, "data"}
    assert of_data == {name.split()[2] for name, _ in commands() if name.count(" ") == 2}
    # the rest are what commands share: none is a command left out
    for name in methods - registered - {"__init__"}:
        known = vars(importlib.import_module(f"cnnlens.methods.{name}")).values()
        kinds = [kind for kind in known if isinstance(kind, type) and issubclass(kind, Method)]
        assert not [kind for kind in kinds if kind.name]


def test_lazy_names_live_where_they_are_said_to():
    homes = cnnlens._HOMES
    for name, home in homes.items():
        assert getattr(importlib.import_module(home), name) is getattr(cnnlens, name)
