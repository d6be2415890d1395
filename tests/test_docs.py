"""What the documentation names is there, and what is there is named: read, without torch."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@cache
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


# ---- commands and options


@cache
def flags() -> dict[str, set[str]]:
    """Flags of every command, by its words."""
    return {
        name: {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        for name, command in hooks().commands().items()
    }


def test_every_command_has_a_page_with_all_its_options():
    pages = hooks().command_pages()
    assert len(pages) == len(flags()) + 1 > 20
    for name, known in flags().items():
        text = pages[f"commands/{name.replace(' ', '-')}.md"]
        shown = set(re.findall(r"--?[a-zA-Z][\w-]*", text))
        assert {flag for flag in known if flag[0] == "-"} - shown - {"--help", "-h"} == set()
        assert f"[`{name}`](" in pages["commands/index.md"]


def test_every_method_stands_among_the_questions():
    asked = set(re.findall(r"`(\w+)`", page("methods")))
    known = {name.split()[0] for name in flags()}
    assert known - asked == set(), "docs/methods.md says what each is for, its chance and limits"


def test_the_page_is_explained_section_by_section():
    notes = hooks().section_notes()
    assert {"units", "exam", "ablate", "visualize", "compare"} <= set(notes)
    assert [name for name, note in notes.items() if len(note) < 60 or "{" in note] == []
    assert notes["units"] in hooks().notes_page(page("reading-the-page"))


def test_llms_txt_says_what_every_page_is_about():
    pages = [(path.stem, path.name, path.read_text(encoding="utf-8")) for path in DOCS]
    lines = [line for line in hooks().llms(pages) if line.startswith("- [")]
    assert len(lines) == len(DOCS)
    assert [line for line in lines if len(line.partition("): ")[2]) < 15 or "```" in line] == []
    about = {**{name: text for _, name, text in pages}, **hooks().outside_pages()}
    for name, text in about.items():  # whole sentences, not the end of one that began as code
        said = hooks().first_sentence(text)
        assert re.match(r"[A-Z`]|cnnlens ", said) and re.search(r"\w\W{0,3}\.$", said), (name, said)


# ---- links


@pytest.mark.parametrize(
    "path",
    [*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob(".github/**/*.md")],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere_in_the_repository(path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, place = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if place and there.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.M)
            assert place in {anchor(head) for head in heads}, target


def anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s+", "-", plain.strip())


def test_words_that_become_links_in_the_built_documentation_lead_to_what_it_generates():
    made = {**hooks().command_pages(), **hooks().api_pages(), "messages.md": ""}
    named = [(p, one[2]) for p in DOCS for one in hooks().GENERATED.finditer(p.read_text("utf-8"))]
    assert {target for _, target in named} >= {"messages.md", "commands/index.md", "api/study.md"}
    for path, target in named:
        assert target in made and "built documentation" in path.read_text("utf-8"), path
        assert f"]({target})" in hooks().leading(path.read_text("utf-8"))


def called(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """Commands that a page shows, with their flags."""
    found = set()
    for line in re.findall(r"(?:^    \$ |`)(cnnlens [^`\n]*)", text, re.M):
        words = line.split("#")[0].split(" | ")[0].split()
        named = " ".join(words[1:3]) if words[1:2] == ["data"] else " ".join(words[1:2])
        found.add((named, tuple(word for word in words if re.match(r"--?[a-z]", word))))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_on_a_page_are_there_and_take_the_options_shown(path):
    common = {"--help", "-h", "--debug", "--version"}
    for name, given in called(path.read_text(encoding="utf-8")):
        if re.fullmatch(r"[a-z][\w ]*", name) and "|" not in name:
            assert name in flags() or name in ("names", "data"), name
            assert set(given) <= flags().get(name, set(given)) | common, (name, given)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_options_on_a_page_are_options_of_some_command(path):
    known = set().union(*flags().values()) | {"--help", "--debug", "--version"}
    known |= {"--install-completion"}
    # of torchrun, Slurm, git, tests.stress and benchmarks/scale.py
    others = {"--nproc-per-node", "--nnodes", "--rdzv-endpoint", "--max-restarts"}
    others |= {"--array", "--orphan", "--minutes"}
    others |= {"--sizes", "--categories", "--write"}
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert named - known - others == set()


# ---- files


# what commands read, or write in other places than a workspace
ELSEWHERE = {
    *("cgl.pt", "icnn.pt", "plain.pt", "model.pt", "animals.pt", "epoch1.pt", "epoch9.pt"),
    *(
        "groups.json",
        "0001.png",
        "FILE.json",
        "FILE.png",
        "pending.h5",
        "labelmap.txt",
        "colours.csv",
        "part_merges.csv",
    ),
    *("index.csv", "label.csv", "weights.pt", "generator.pt", "0000.png", "cat.png"),
    *("FILE.csv", "mine.csv"),
}
NOT_OURS = ("data/imports/", "data/animals.py", "data/cub.py", "data/download.py", "model/")
WRITTEN = re.compile(r"(?<![.\w])(?!self\b)[\w-]+\.(?:csv|h5|json|png|html|nwk|pt|npz)\b")


@cache
def code() -> dict[str, str]:
    """The code of every module."""
    house = ROOT / "cnnlens"
    files = sorted(house.rglob("*.py"))
    return {p.relative_to(house).as_posix(): p.read_text(encoding="utf-8") for p in files}


def test_every_file_that_the_code_names_is_documented():
    templates = {path.name for path in (ROOT / "cnnlens/report/templates").iterdir()}
    known = " ".join(path.read_text(encoding="utf-8") for path in DOCS)
    lost = {}
    for module, text in code().items():
        if not module.startswith(NOT_OURS):
            for name in set(WRITTEN.findall(text)) - templates - ELSEWHERE:
                if name not in known:
                    lost[name] = module
    assert lost == {}, "docs/files.md names what a workspace holds"


# ---- messages


@cache
def said() -> str:
    """The code with its texts in one piece, whatever lines they stand on."""
    return re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(code().values()))


def windows(quoted: str) -> list[str]:
    """Every three words in a row of a quoted message, without what it names (upper case, `…`)."""
    message, _, names = quoted.partition(": ")
    plain = re.compile(r"[a-z][a-z'-]*[,;:]?")
    words: list[list[str]] = [[]]
    for word in (message if len(message.split()) > 3 else f"{message} {names}").split():
        words[-1].append(word) if plain.fullmatch(word) else words.append([])
    size = min(3, max(map(len, words)))
    return [" ".join(run[i : i + size]) for run in words for i in range(len(run) - size + 1)]


def stands(quoted: str) -> bool:
    """Whether half of a message is in the code word for word; some join parts as they run."""
    found = [window.strip(",;:'") in said() for window in windows(quoted)]
    return sum(found) >= len(found) / 2


QUOTED = [
    " ".join(quoted.split())
    for path in DOCS
    for quoted in re.findall(r"\*\*`([^`]+)`", path.read_text(encoding="utf-8"))
]


def test_quoted_messages_still_stand_in_the_code():
    assert len(QUOTED) > 80
    assert [quoted for quoted in QUOTED if not stands(quoted)] == []
    assert not stands("DIR holds no findings so far") and not stands("no layer of this name 'x'")
