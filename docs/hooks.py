"""What `make docs` writes by itself: a page per command, the reference of the API, `llms.txt`.

All of it comes from the code, so that none of it can be out of date. Nothing here needs torch.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import cnnlens

ROOT = Path(cnnlens.__file__).parents[1]
# pages that lie beside the code, where hosts of repositories look for them
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
OUTSIDE |= {"SECURITY.md": "security.md"}

# ---- commands


def commands() -> dict[str, Any]:
    """All commands by their words, `data list` among them, in the order of the help."""
    import typer.main

    from cnnlens.cli.app import app

    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {key}": one for key, one in inner.items()} if inner else {name: command}
    return found


def command_page(name: str, command: Any) -> str:
    """One command's help as Markdown: what it says, how it is called, its options, examples."""
    summary, _, more = inspect.cleandoc(command.help).partition("\n\n")
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"# cnnlens {name}", "", f"**{' '.join(summary.split())}**", "", code(more), ""]
    lines += ["```text", f"cnnlens {name} {usage}", "```", ""]
    for heading, rows in panels(command, context).items():
        lines += [f"## {heading}", "", "| option | meaning |", "| --- | --- |"]
        lines += [f"| {option} | {meaning} |" for option, meaning in rows] + [""]
    if examples := getattr(command, "examples", ()):
        lines += ["## Examples", "", "```text", *examples, "```", ""]
    if name in methods():
        lines += [
            f"In Python: `lens.{name}(…)`, with the same options as keywords; see "
            "[In Python](../python.md).",
            "",
        ]
    return "\n".join(lines)


def methods() -> dict[str, Any]:
    """All methods by name."""
    from cnnlens.methods import methods

    return methods()


def panels(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Arguments and options under the headings of ``--help``."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        argument = parameter.param_type_name == "argument"
        usual = "Arguments" if argument else "Options"
        heading = str(getattr(parameter, "rich_help_panel", None) or usual)
        shown = parameter.metavar or record[0] if argument else record[0]
        found.setdefault(heading, []).append((f"`{shown.strip()}`", code(record[1])))
    return found


def code(text: str) -> str:
    """A help text as Markdown: what looks like markup is none."""
    kept = text.split("`")
    kept[::2] = [escaped(part) for part in kept[::2]]
    return "`".join(kept)


def escaped(text: str) -> str:
    """A text whose marks are no markup."""
    for mark in "|[]<>*_":
        text = text.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, f"\\{mark}"))
    return text


def command_list(pages: dict[str, str]) -> str:
    """The page over all commands, under the headings of ``cnnlens --help``."""
    lines = ["# Every command", "", "`cnnlens COMMAND --help` says the same in the same words.", ""]
    headings: dict[str, list[str]] = {}
    for name, command in commands().items():
        heading = getattr(command, "rich_help_panel", None) or "Data"
        summary = " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split())
        link = f"[`{name}`]({Path(pages[name]).name})"
        headings.setdefault(str(heading), []).append(f"| {link} | {code(summary)} |")
    for heading, rows in headings.items():
        lines += [f"## {heading}", "", "| command | does |", "| --- | --- |", *rows, ""]
    return "\n".join(lines)


def command_pages() -> dict[str, str]:
    """Text of every page about commands by its path."""
    found = commands()
    paths = {name: f"commands/{name.replace(' ', '-')}.md" for name in found}
    pages = {"commands/index.md": command_list(paths)}
    return pages | {paths[name]: command_page(name, one) for name, one in found.items()}


# ---- what the page says of itself

# of what the notes of sections are told by the section
TOLD = {
    "perturbed": True, "trained": True, "level": "95 %", "layer": "the layer",
    "origins": ["classes", "text"],
}  # fmt: skip


def section_notes() -> dict[str, str]:
    """What a reader has to know of each section of the page, by the section's key."""
    from jinja2 import Environment, FileSystemLoader

    folder = ROOT / "cnnlens" / "report" / "templates"
    notes = Environment(loader=FileSystemLoader(folder)).get_template("notes.html").module
    told = {}
    for name in re.findall(r"{% macro (\w+)", (folder / "notes.html").read_text("utf-8")):
        one = getattr(notes, name)
        told[name] = one(**{key: TOLD[key] for key in one.arguments if key in TOLD}).strip()
    return told


def notes_page(markdown: str) -> str:
    """A page with the notes of all sections where it asks for them."""
    known = commands()
    links = {name: f"[{name}](commands/{name}.md)" for name in known}
    notes = [f"### {links.get(key, key)}\n\n{note}\n" for key, note in section_notes().items()]
    return markdown.replace("<!-- notes -->", "\n".join(notes))


# ---- every message


def messages() -> dict[str, list[tuple[str, str]]]:
    """Every message of an error, with its way out, by the room whose code says it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "cnnlens").rglob("*.py")):
        room = path.relative_to(ROOT / "cnnlens").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if name in ("CnnlensError", "UsageError") and node.args:
                said = [written(one) for one in node.args[:2]] + [""]
                found.setdefault(room, []).append((said[0], said[1]))
    return {room: sorted(set(pairs)) for room, pairs in found.items()}


def written(node: ast.expr) -> str:
    """A text in the code as a reader meets it; `…` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(one) for one in node.values)
    if isinstance(node, ast.BoolOp):  # a guess, else this
        return written(node.values[-1])
    return "…"


def message_page() -> str:
    """All messages with enough words of their own to be looked up by."""
    lines = [
        "# Every message",
        "",
        "What errors say, and the way out that stands below them; `…` is",
    ]
    lines += ["what they name. [Troubleshooting](troubleshooting.md) explains the usual ones.", ""]
    for room, pairs in messages().items():
        told = [pair for pair in pairs if sum(map(str.isalpha, pair[0])) > 7]
        if told:
            lines += [f"## {HEADINGS.get(room, room)}", ""]
            lines += ["| message | way out |", "| --- | --- |"]
            lines += [f"| {code(said)} | {code(way).strip('…')} |" for said, way in told] + [""]
    return "\n".join(lines)


# ---- the reference of the API

ROOMS = {
    "study": "An investigation",
    "settings": "Settings",
    "model": "Models and layers",
    "data": "Data",
    "activations": "Activations",
    "measure": "Measuring units",
    "synthesize": "Optimized images",
    "attribution": "Attribution",
    "cluster": "Clustering",
    "interpretable": "Interpretable networks",
    "report": "The page",
    "errors": "Errors",
}
HEADINGS = {**ROOMS, "methods": "Methods", "files": "Files and workspaces", "cli": "Commands"}


def public() -> dict[str, list[str]]:
    """Full names of what `cnnlens` offers, by the room it lives in."""
    homes = {**cnnlens._HOMES, "cluster": "cnnlens.cluster.clustering"}
    homes |= {"CnnlensError": "cnnlens.errors", "UsageError": "cnnlens.errors"}
    found: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name, home in homes.items():
        found[home.split(".")[1]].append(f"{home}.{name}")
    return {room: sorted(names) for room, names in found.items() if names}


def api_pages() -> dict[str, str]:
    """Text of every page of the reference by its path."""
    pages = {}
    for room, names in public().items():
        lines = [f"# {ROOMS[room]}", "", "All of it is `cnnlens.NAME`.", ""]
        lines += [f"::: {name}\n" for name in names]
        pages[f"api/{room}.md"] = "\n".join([*lines, *(bound() if room == "study" else ())])
    return pages


def bound() -> Iterator[str]:
    """The methods that an investigation has by name, with their keywords."""
    from cnnlens import Investigation

    yield "## Its methods\n\nCommands with their options as keywords, and the same defaults.\n"
    lens = Investigation.__new__(Investigation)  # nothing is opened
    for name in methods():
        call = getattr(lens, name)
        words = [f"*{k}" if p.kind is p.VAR_POSITIONAL else k for k, p in keywords(call)]
        shown = fill(f"lens.{name}({', '.join(words)})", 90, subsequent_indent="    ")
        yield f"### {name}\n\n```python\n{shown}\n```\n"
        yield f"{code(summary(call))} ([options](../commands/{name}.md))\n"


def keywords(call: Any) -> list[tuple[str, inspect.Parameter]]:
    """Parameters of a callable, by name."""
    return list(inspect.signature(call).parameters.items())


def summary(call: Any) -> str:
    """First sentence of a docstring."""
    return " ".join(inspect.cleandoc(call.__doc__).split("\n\n")[0].split())


# ---- what MkDocs asks for


def outside_pages() -> dict[str, str]:
    """Pages that lie beside the code; their links into docs lead on from here."""
    texts = {path: (ROOT / file).read_text(encoding="utf-8") for file, path in OUTSIDE.items()}
    return {path: linked(text) for path, text in texts.items()}


def linked(text: str) -> str:
    """A page of the repository's root as a page of the site."""
    for file, path in OUTSIDE.items():
        text = text.replace(f"]({file})", f"]({path})")
    return text.replace("](docs/", "](")


# of a page in docs/, to one that is generated: a host of repositories, which has none, shows words
GENERATED = re.compile(r"\*([^*\n]+)\*<!-- ([\w/-]+\.md) -->")


def leading(text: str) -> str:
    """A page of docs/ as a page of the site: with links to what is generated or lies outside."""
    for file, path in OUTSIDE.items():
        text = text.replace(f"](../{file})", f"]({path})")
    return GENERATED.sub(r"[\1](\2)", text)


def on_config(config: Any) -> Any:
    """Fill the menu with what is generated."""
    filled = {"commands": [*command_pages()], "api": [*api_pages()]}
    config["nav"] = [_filled(entry, filled) for entry in config["nav"]]
    return config


def _filled(entry: Any, filled: dict[str, list[str]]) -> Any:
    if isinstance(entry, dict):
        return {name: _filled(inner, filled) for name, inner in entry.items()}
    if isinstance(entry, list):
        return [_filled(inner, filled) for inner in entry]
    return filled.get(entry, entry)


def on_files(files: Any, config: Any) -> Any:
    """Add what is generated to the pages."""
    from mkdocs.structure.files import File

    more = {**outside_pages(), "messages.md": message_page()}
    for path, text in {**command_pages(), **api_pages(), **more}.items():
        files.append(File.generated(config, path, content=text))
    return files


_READ: list[tuple[str, str, str]] = []  # title, path and text of every page
_MENU: list[str] = []  # paths in the menu's order


def on_nav(nav: Any, config: Any, files: Any) -> None:
    """Note in which order pages are read."""
    _MENU[:] = [page.file.src_uri for page in nav.pages]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill a page in, and keep its text for `llms.txt`."""
    text = leading(notes_page(markdown))
    _READ.append((str(page.title), page.file.src_uri, text))
    return text


def on_post_build(config: Any) -> None:
    """Write `llms.txt` and the texts that it names, for programs that read."""
    site = Path(config["site_dir"])
    for _, path, text in _READ:
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    read = sorted(_READ, key=lambda page: _MENU.index(page[1]))
    (site / "llms.txt").write_text("\n".join(llms(read)), encoding="utf-8")


def llms(pages: list[tuple[str, str, str]]) -> Iterator[str]:
    """`llms.txt`: what this is, and every page with its first sentence."""
    yield "# cnnlens"
    yield "\n> Asks a trained CNN what its filters learned: a command line and a Python package.\n"
    yield "## Pages\n"
    for title, path, text in pages:  # the reference is written from the code: read that
        if not path.startswith("api/"):
            yield f"- [{title}]({path}): {first_sentence(text)}"
    yield ""


def first_sentence(markdown: str) -> str:
    """First sentence of a page's first paragraph."""
    for part in re.sub(r"```.*?```", "", markdown, flags=re.S).split("\n\n"):
        if part.strip() and not re.match(r"[#|!-]|    ", part.lstrip("\n")):
            return " ".join(part.split()).replace("**", "").split(". ")[0].rstrip(".:") + "."
    return ""
