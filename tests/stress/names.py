"""Hostile names stay in the page's quotes, the terminal's line and the workspace's folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import torch

from .case import Case, contents
from .ground import QUICK
from .trial import Outcome, Words

WHOLE = 40
SAYS = (
    "hostile names of classes, concepts, categories, folders, images, layers and in result files: "
    "no element or attribute of theirs in any page or drawing, one terminal line, no control "
    "characters, no file outside the workspace"
)

TEXTS = (
    *("<pwned>", '"><pwned>', "' pwned='", '" pwned="', "</script><pwned>", "</style><pwned>"),
    *("--><pwned>", "]]><pwned/>", "<img src=x onerror=pwned()>", "{{ pwned }}", "${pwned}"),
    *('";pwned();//', "\\';pwned();//", "javascript:pwned()", "&lt;pwned&gt;", "%s%n", "$(pwned)"),
    *("a\npwned: b", "a\rpwned", "\x1b[2Jpwned", "\x1b]0;pwned\x07", "\x9b31mpwned", "\0pwned"),
    *("\u202epwned", "\u2028pwned", "\x7f", "../../pwned", "/pwned", "..", ".", "~", "-rf", ""),
    *("a/b", "a\\b", "con", "x" * 300, "é" * 130, "=pwned()", "[link](javascript:pwned())"),
)
_RESULTS = ("dissect", "visualize", "cam", "invert", "deconv", "units", "label", "cluster", "fool")


def check(case: Case) -> None:
    """Name everything hostile, run commands over it, and look at all that they leave."""
    _rename(case, case.place / "kinds")
    _rename(case, case.place / "photos")
    _relabel(case, case.place / "shapes")
    _reclass(case, case.place / "net.pt")
    layer = _relayer(case, case.place / "nets.py")
    _misreport(case, case.place / "ws")
    chosen = case.dice.sample(_commands(case, layer), 7)
    before = contents(case.place)
    if any(words[0] in ("dissect", "label") for words, _ in chosen):
        exam = ("exam", "net.pt", "-l", "conv2", "--chance", 1, "--resamples", 0, *QUICK)
        chosen.append((exam, "new"))  # of hostile labels
    for words, workspace in chosen:
        done = case.run(*words, "-w", workspace)
        case.counts[f"exit {done.code}"] += 1
        _expect_lines(case, done)
    for workspace in ("new", "other", "ws"):
        if (case.place / workspace / "workspace.json").exists():
            _expect_lines(case, case.run("report", "-w", workspace))
            done = case.run("report", "--site", f"{workspace}/site", "-w", workspace)
            _expect_lines(case, done)
    _expect_inside(case, before)
    for folder in ("new", "other", "ws"):
        for path in (case.place / folder).rglob("*"):
            _expect_quoted(case, path)


def _commands(case: Case, layer: str) -> list[tuple[Words, str]]:
    photos = ("-i", "photos")
    found: list[Words] = [
        ("dissect", "net.pt", "-d", "shapes", "-l", "conv2", "--chance", 0, *QUICK),
        ("units", "net.pt", "-d", "kinds", "-l", "conv2", *QUICK),
        ("units", "net.pt", "-d", "photos", "-l", "conv1", *QUICK),
        ("cluster", "net.pt", "-d", "kinds", "-l", "conv2", "--only", "filters", *QUICK),
        ("label", "net.pt", "-d", "kinds", "-l", "conv2", "--chance", 0, *QUICK),
        ("cam", "net.pt", *photos, "--method", "gradcam", *QUICK),
        ("fool", "net.pt", *photos, "--steps", 1, *QUICK),
        ("invert", "net.pt", *photos, "-l", "conv1", "--steps", 1, *QUICK),
        ("deconv", "net.pt", "-f", "conv1:0", "-d", "photos", *QUICK),
        ("visualize", "net.pt", "--logit", 0, "--steps", 1, *QUICK),
        ("ablate", "net.pt", "-d", "kinds", "-f", "conv3:0,1", "--random", 1, *QUICK),
        ("net2vec", "net.pt", "-d", "shapes", "-l", "conv2", "--epochs", 1, "--chance", 0, *QUICK),
        ("outliers", "net.pt", "-d", "kinds", "-l", "conv3", "--noise", 4, *QUICK),
        ("evolve", *_steps(case), "-f", "conv1:0", "-d", "photos", *QUICK),
        ("layers", "net.pt"),
        ("doctor", "net.pt"),
        ("data", "check", "shapes"),
    ]
    odd = ("--image-size", 24, "-l", layer, *QUICK)
    other: list[Words] = [
        ("units", "nets.py:net", "-d", "photos", *odd),
        ("invert", "nets.py:net", *photos, "--steps", 1, *odd),
    ]
    here = [(words, "new") for words in found if words[0] != "data"]
    return [*here, *((words, "other") for words in other)]


# ---- naming


def _rename(case: Case, folder: Path) -> None:
    """Give folders and files below names that a file can have."""
    texts = [text for text in TEXTS if _is_name(text)]
    for path in sorted(folder.rglob("*"), reverse=True):
        if case.dice.random() < 0.6:
            name = case.dice.choice(texts) + (path.suffix if path.is_file() else "")
            if not path.with_name(name).exists():
                path.rename(path.with_name(name))


def _is_name(text: str) -> bool:
    usual = text not in ("", ".", "..") and "/" not in text and "\0" not in text
    return usual and len(os.fsencode(text)) < 250


def _relabel(case: Case, shapes: Path) -> None:
    """Give concepts, and one category, hostile names."""
    dice = case.dice
    names = {name: dice.choice(TEXTS) for name in ("red", "square", "edge", "striped")}
    names |= {"texture": dice.choice(TEXTS)} if dice.random() < 0.5 else {}
    for path in shapes.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = [[names.get(cell, cell) for cell in row] for row in csv.reader(file)]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    if _is_name(names.get("texture", "")):
        (shapes / "c_texture.csv").rename(shapes / f"c_{names['texture']}.csv")


def _reclass(case: Case, model: Path) -> None:
    content = torch.load(model, weights_only=True)
    content["classes"] = case.dice.sample(TEXTS, 3)
    torch.save(content, model)


def _steps(case: Case) -> list[str]:
    """Copy the network under hostile names, as checkpoints of a training."""
    folder = case.place / "steps"
    folder.mkdir(exist_ok=True)
    names = [f"{text}.pt" for text in TEXTS if _is_name(text)]
    chosen = sorted(case.dice.sample(names, 2))
    for name in chosen:
        shutil.copy(case.place / "net.pt", folder / name)
    return [f"steps/{name}" for name in chosen]


def _relayer(case: Case, path: Path) -> str:
    """Write a network one of whose modules has a hostile name, and give that name."""
    usable = [text for text in TEXTS if text and "." not in text and "\0" not in text]
    name = case.dice.choice(usable)
    path.write_text(
        "import torch\nfrom torch import nn\n\n"
        "def net():\n    torch.manual_seed(0)\n    net = nn.Sequential()\n"
        f"    net.add_module({name!r}, nn.Conv2d(3, 4, 3))\n"
        "    net.add_module('act', nn.ReLU())\n    return net\n",
        encoding="utf-8",
    )
    return name


def _misreport(case: Case, workspace: Path) -> None:
    """Put hostile texts into what earlier commands listed: somebody else's workspace."""
    for kind in case.dice.sample(_RESULTS, 3):
        for path in (workspace / kind).rglob("*.json"):
            document = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(_hostile(document, case)), encoding="utf-8")


def _hostile(value: object, case: Case) -> object:
    if isinstance(value, dict):
        return {key: _hostile(below, case) for key, below in value.items()}
    if isinstance(value, list):
        return [_hostile(below, case) for below in value]
    return case.dice.choice(TEXTS) if isinstance(value, str) and case.dice.random() < 0.3 else value


# ---- looking


def _expect_lines(case: Case, done: Outcome) -> None:
    """What it says has no control characters, and no line that a name began."""
    said = done.out + done.err
    odd = sorted({c for c in said if not c.isprintable() and c not in "\n"})
    case.expect(not odd, f"`{done}` writes {odd} to the terminal")
    begun = [line for line in said.splitlines() if line.lstrip().startswith("pwned: b")]
    case.expect(not begun, f"`{done}` writes a line of a name's own: {begun[:1]}")


def _expect_inside(case: Case, before: dict[str, bytes]) -> None:
    """Nothing came to be, or changed, outside the workspaces but the list of named code."""
    mine = ("new/", "other/", "ws/", ".local/share/cnnlens/named-code.txt")
    after = contents(case.place)
    for name in before.keys() | after.keys():
        if not name.startswith(mine) and before.get(name) != after.get(name):
            case.faults.append(f"outside the workspace: {name!r}")
    up = [p.name for p in case.place.parent.glob("*pwned*")] + [*Path("/").glob("pwned*")]
    case.expect(not up, f"far outside the workspace: {up}")


class _Quotes(HTMLParser):
    """Finds elements and attributes that only a name can have brought, and broken data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._data = tag == "script" and ("type", "application/json") in attrs
        own = "pwned" in tag or any("pwned" in key for key, _ in attrs)
        runs = any(key.startswith("on") and "pwned" in (value or "") for key, value in attrs)
        places = [value or "" for key, value in attrs if key in ("href", "src", "action")]
        follows = any(value.lstrip().startswith("javascript:") for value in places)
        if own or runs or follows:
            self.found.append((self.get_starttag_text() or tag)[:200])

    def handle_data(self, data: str) -> None:
        if self._data and data.strip():
            try:
                json.loads(data)
            except ValueError as error:
                self.found.append(f"data that is no JSON: {error}")
        self._data = False


def _expect_quoted(case: Case, path: Path) -> None:
    if path.suffix == ".html":
        quotes = _Quotes()
        quotes.feed(path.read_text(encoding="utf-8"))
        case.expect(not quotes.found, f"{path.name} holds {quotes.found[:2]}")
    if path.suffix == ".svg":
        try:
            tags = [element.tag for element in ElementTree.parse(path).iter()]
        except ElementTree.ParseError as error:
            case.faults.append(f"{path.name} is no SVG: {error}")
        else:
            case.expect(not any("pwned" in str(tag) for tag in tags), f"{path.name} has an element")
