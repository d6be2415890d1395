"""What docs/files.md says of a workspace, to hold a real one against."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

FILES = Path(__file__).parents[1] / "docs" / "files.md"
# left by an interrupted command, or by two at once; originals of images for the page
HIDDEN = re.compile(r"(^|/)(\.|unfinished\.)")


def pattern(path: str) -> str:
    """A documented path as a regular expression; what is in angle brackets may be anything."""
    return re.sub(r"<\w+>", "[^/]+", re.escape(path)) + (".*" if path.endswith("/") else "")


@cache
def paths() -> list[re.Pattern[str]]:
    """Every path of the tree, and the other names and endings that its line gives it."""
    tree = re.search(r"```text\n(.*?)```", FILES.read_text(encoding="utf-8"), re.S)[1]
    found = []
    for line in filter(None, tree.splitlines()):
        path, _, meaning = line.partition(" ")
        folder, stem = path.rpartition("/")[0], path.rpartition(".")[0]
        names = re.findall(r"[\w<>/-]+\.\w+", meaning)
        beside = [path, *(f"{folder}/{name}" for name in names)]
        every = [path, *beside, *(f"{stem}{end}" for end in re.findall(r"(?<= )\.\w+", meaning))]
        every += [f"{one.rpartition('.')[0]}.svg" for one in every if ".svg" in meaning]
        found += [re.compile(pattern(one)) for one in every]
    return found


@cache
def columns() -> list[tuple[re.Pattern[str], list[re.Pattern[str]]]]:
    """Columns of every table, by the pattern of its path."""
    rows = re.findall(r"^\| (`[^|]*?\.csv`[^|]*) \| (.*) \|$", FILES.read_text("utf-8"), re.M)
    found = []
    for paths_, names in rows:
        known = [re.compile(pattern(name)) for name in re.findall(r"`([^`]+)`", names)]
        for path in re.findall(r"`([^`]+)`", paths_):
            found.append((re.compile(pattern(path).replace("umap", r"umap\w*")), known))
    return found


def undocumented(workspace: Path) -> list[str]:
    """Files of a workspace, and columns of its tables, that the documentation does not name."""
    lost = []
    for file in sorted(workspace.rglob("*")):
        name = file.relative_to(workspace).as_posix()
        if file.is_dir() or HIDDEN.search(name):
            continue
        drawn = re.sub(r"\.npz$", ".png", name)  # --raw writes it beside a picture
        if not any(one.fullmatch(name) or one.fullmatch(drawn) for one in paths()):
            lost.append(name)
        if file.suffix == ".csv":
            known = next((names for place, names in columns() if place.fullmatch(name)), [])
            free = any(word in name for word in ("distances.csv", "confusion.csv"))  # categories
            with file.open(encoding="utf-8", newline="") as lines:
                header = next(csv.reader(lines))
            lost += [
                f"{name}: {column}"
                for column in header[: 1 if free else None]
                if not any(one.fullmatch(column) for one in known)
            ]
    return lost


def unkept(workspace: Path) -> list[str]:
    """Keys that the documentation promises of a JSON file, and none such in a workspace has.

    What stands behind "; with `--OPTION`", to the end of the sentence, is promised of that alone.
    """
    rows = re.findall(r"^\| (`[^|]*?\.json`[^|]*) \| (.*) \|$", FILES.read_text("utf-8"), re.M)
    files = {f.relative_to(workspace).as_posix(): f for f in workspace.rglob("*.json")}
    lost = []
    for path, promised in rows:
        for one in re.findall(r"`([^`]+\.json)`", path):
            place = re.compile(("" if "/" in one or one in files else ".*/") + pattern(one))
            texts = [f.read_text("utf-8") for name, f in files.items() if place.fullmatch(name)]
            always = re.sub(r"; with `--.*?\. ", ". ", promised)  # the rest is there when asked for
            for keys in re.findall(r"`[a-z_\d]+`(?: or `[a-z_\d]+`)*", always) if texts else ():
                known = re.findall(r"`(\w+)`", keys)
                if not any(f'"{key}"' in text for key in known for text in texts):
                    lost.append(f"{one}: {keys}")
    return lost
