"""A site to share: no dead links, equal bytes of equal results, whole or not at all."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods import sections
from cnnlens.report import site as sites
from cnnlens.report.site import write_site
from cnnlens.report.site_content import SiteUnit, slugs_of
from cnnlens.report.unit_page import Classes, UnitPage, unit_layers

from .fake_workspace import make_workspace
from .test_unit_page import optimize
from .test_units import photos, respond

__all__ = ["photos"]  # a fixture
HOSTILE = "\"><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"


class Page(HTMLParser):
    """What stands in a page: links, anchors, words of its head, tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.meta: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._in_title = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.tags.append((tag, said))
        self._in_title = tag == "title"
        self.links += [str(said[name]) for name in ("href", "src") if said.get(name)]
        self.anchors |= {str(said["id"])} if said.get("id") else set()
        if tag == "meta" and (name := said.get("property") or said.get("name")):
            self.meta[name] = str(said["content"])

    def handle_data(self, data: str) -> None:
        self.title += data if self._in_title else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def pages(folder: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def dead_links(folder: Path) -> list[str]:
    """Name every link, picture, style and script that leads nowhere, or out of the site."""
    known, dead = pages(folder), []
    for path, page in known.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            inside = not parts.scheme and target.is_relative_to(folder.resolve())
            there = inside and target.is_file()
            if there and parts.fragment:
                there = parts.fragment in known[target].anchors
            dead += [] if there else [f"{path.relative_to(folder)}: {link}"]
    return dead


def listed(folder: Path) -> dict[str, Any]:
    text = (folder / "units.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(re.fullmatch(r"const SITE = (.*);\n", text)[1])  # type: ignore[index]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    every = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in every}


@pytest.fixture(scope="module")
def made(photos: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers that were measured, one of them dissected, too, a drawing of a third; a site."""
    root = tmp_path_factory.mktemp("made")
    place = root / "work" / "ws"
    make_workspace(place, {"conv5": 5}, images=4)
    for layer in ("conv5", "conv4"):
        respond(place, photos, layer)
    optimize(place, "conv3", 7)
    model = {"spec": str(root / "secret" / "net.pt"), "arch": "zoo:net"}
    command = f"cnnlens units {root}/secret/net.pt -d {root}/photos"
    document = {"model": model, "commands": [command], "layers": []}
    (place / "workspace.json").write_text(json.dumps(document))
    found = write_site(place, root / "site", sections=sections())
    assert found.site == root / "site" / "index.html"
    assert found.files == len(contents(root / "site"))
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "work", tmp_path / "work")) / "ws"


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "site", tmp_path / "site"))


def test_every_link_leads_somewhere(site: Path) -> None:
    assert len(pages(site)) == 2 + 3 + (5 + 3 + 1) + 6 + 1  # front, findings, layers, units, images
    assert dead_links(site) == []
    for layer in listed(site)["layers"]:
        for unit, tile in zip(layer["unit"], layer["tile"], strict=True):
            assert (site / layer["folder"] / f"{unit}.html").is_file()
            assert (site / layer["folder"] / f"{unit}.webp").is_file() == bool(tile)


def test_the_link_checker_finds_dead_links(site: Path) -> None:
    (site / "units" / "conv4" / "1.html").unlink()
    assert "units/conv4/0.html: 1.html" in dead_links(site)


def test_every_page_is_reached_without_a_script(site: Path) -> None:
    known, reached, todo = pages(site), set(), [site / "index.html"]
    while todo:
        path = todo.pop()
        reached.add(path)
        targets = {(path.parent / link).resolve() for link in known[path].links}
        todo += [found for found in targets if found in known and found not in reached]
    assert reached == set(known)


def test_what_else_is_known_stands_on_a_page_of_its_own(site: Path) -> None:
    text = (site / "report.html").read_text()
    assert "What its units detect" in text and "Its units, one by one" not in text
    assert '<a href="index.html">All units</a>' in text
    assert 'href="report.html"' in (site / "index.html").read_text()


GUIDE = Path(__file__).parents[2] / "docs" / "share.md"


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_what_the_guide_asks_of_jq_is_answered(site: Path) -> None:
    lines = re.findall(r"^    \$ (jq .*)$", GUIDE.read_text(encoding="utf-8"), re.M)
    assert len(lines) == 3
    for line in lines:
        here = line.replace("features.12/323", "conv5/0").replace("features.12", "conv5")
        here = here.replace("> 0.1", "> 0")
        done = subprocess.run(here, shell=True, cwd=site.parent, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout and "null" not in done.stdout, line


def test_a_unit_s_json_says_what_its_page_says(workspace: Path, site: Path) -> None:
    layer = {one.name: one for one in unit_layers(workspace)}["conv5"]
    said = json.loads((site / "units" / "conv5" / "0.json").read_text())
    expected = json.loads(json.dumps(layer.pages[0].as_dict()))
    assert {key: said[key] for key in expected} == expected
    assert said["model"] == "net.pt" and said["picture"] == "0.webp"
    assert set(said["files"]) >= {one["image"] for one in said["top"]}
    for file in said["files"].values():
        assert (site / "units" / "conv5" / file).resolve().is_file()


def test_a_layer_s_table_has_a_row_per_unit(site: Path) -> None:
    with (site / "units" / "conv5" / "units.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["unit"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[0]["top_image"] == "4.png" and float(rows[0]["peak_max"]) == 3.0
    assert rows[0]["label"] and rows[0]["neighbour"]
    assert rows[2]["dead"] == "1" and not rows[2]["top_image"]


@pytest.mark.parametrize(
    ("stands_out", "shown"), [(True, ("cat", "8% of its top")), (False, ("", "32.4% above 0"))]
)
def test_a_tile_gives_a_share_of_a_class_that_it_names(
    stands_out: bool, shown: tuple[str, str]
) -> None:
    classes = Classes("cat", 0.08, 3.0, None, chance=0.05, stands_out=stands_out)
    unit = SiteUnit(UnitPage("conv1", 3, peak=2.0, density=0.324, classes=classes), "3.html")
    assert (unit.what, unit.figure) == shown


def test_links_to_a_unit_have_title_and_picture(workspace: Path, tmp_path: Path) -> None:
    write_site(workspace, tmp_path / "site", url="https://example.org/net")
    for path, page in pages(tmp_path / "site").items():
        assert page.meta["og:title"] and page.meta["description"] and page.title, path
    page = Page(tmp_path / "site" / "units" / "conv4" / "0.html")
    assert page.meta["og:title"].startswith("Unit 0 of conv4")
    assert page.meta["og:image"] == "https://example.org/net/units/conv4/0.webp"
    assert page.meta["og:url"] == "https://example.org/net/units/conv4/0.html"
    write_site(workspace, tmp_path / "site")
    page = Page(tmp_path / "site" / "units" / "conv4" / "0.html")
    preview = tmp_path / "site" / "units" / "conv4" / page.meta["og:image"]
    with Image.open(preview) as picture:
        assert picture.format == "WEBP" and picture.size == (240, 240)
    with pytest.raises(UsageError, match="is no address"):
        write_site(workspace, tmp_path / "site", url="example.org")


def test_a_tile_shows_what_the_unit_sees(site: Path) -> None:
    with Image.open(site / "units" / "conv4" / "0.webp") as picture:
        first = np.asarray(picture.convert("L")).astype(int)[20:100, 20:100]
    assert abs(first - ((4 * 1 + 2) * 14 + 5 * 4)).max() <= 8  # image 4 at (1, 2): one grey


def test_an_image_names_the_units_that_fire_most_on_it(workspace: Path, site: Path) -> None:
    layer = {one.name: one for one in unit_layers(workspace)}["conv4"]
    best = layer.pages[0].top[0]
    assert best.image == "4.png" and best.picture is not None
    text = (site / "images" / f"{best.picture.stem}.html").read_text()
    firing = re.findall(r'href="\.\./units/conv4/(\d+)\.html"', text)
    assert layer.responses is not None
    assert firing == [str(unit) for unit, _, _ in layer.responses.strongest("4.png")]
    assert firing[0] == "0" and "100 %" in text


def test_an_image_is_asked_of_every_layer_that_saw_it(workspace: Path, tmp_path: Path) -> None:
    kept = workspace / "units" / "conv4" / "pictures.h5"
    with h5py.File(kept, "r+") as file:
        file["files"][4] = ""  # conv4 does not show 4.png; conv5 does
    layer = {one.name: one for one in unit_layers(workspace)}["conv5"]
    picture = layer.pages[0].top[0].picture
    assert picture is not None
    write_site(workspace, tmp_path / "site")
    text = (tmp_path / "site" / "images" / f"{picture.stem}.html").read_text()
    assert "../units/conv4/0.html" in text and "../units/conv5/0.html" in text


def test_equal_results_are_equal_bytes(workspace: Path, site: Path, tmp_path: Path) -> None:
    write_site(workspace, tmp_path / "again", sections=sections())
    first, second = contents(site), contents(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    write_site(workspace, site, sections=sections())  # in place of itself
    assert contents(site) == second


def test_what_is_no_longer_known_is_gone(workspace: Path, site: Path) -> None:
    (workspace / "units" / "conv4").rename(workspace / "gone")
    write_site(workspace, site)
    assert not (site / "units" / "conv4").exists()
    assert dead_links(site) == []


def test_a_site_is_written_whole_or_not_at_all(
    workspace: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(site)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sites._Writer, "_front", stopped)
    for folder in (site, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            write_site(workspace, folder)
    assert contents(site) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "work"]


def test_what_is_no_site_of_ours_is_left_as_it_is(
    workspace: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (other / "site.json").write_text('{"made_by": "me"}')
    for folder, says in ((other, "something else"), (tmp_path / "file", "is a file"),
                         (workspace, "something else")):  # fmt: skip
        before = contents(folder) if folder.is_dir() else folder.read_bytes()
        with pytest.raises(UsageError, match=says):
            write_site(workspace, folder)
        assert (contents(folder) if folder.is_dir() else folder.read_bytes()) == before
    for name in ("CNAME", ".git/config", "units/conv4/notes.txt"):
        mine = site / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(UsageError, match="no part of its site"):
            write_site(workspace, site)
        assert mine.read_text() == "mine"
        mine.unlink()
        if name == ".git/config":
            mine.parent.rmdir()
    monkeypatch.chdir(site / "units")
    with pytest.raises(UsageError, match="where this command runs"):
        write_site(workspace, site)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert write_site(workspace, Path("empty")).site.is_file()


def test_nothing_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match="knows nothing of any unit") as caught:
        write_site(tmp_path, tmp_path / "site")
    assert not (tmp_path / "site").exists() and "report.html" not in caught.value.hint
    (tmp_path / "report.html").write_text("clusters")
    with pytest.raises(CnnlensError) as caught:
        write_site(tmp_path, tmp_path / "site")
    assert f"share {tmp_path / 'report.html'}" in caught.value.hint


def test_no_file_names_the_machine(made: Path) -> None:
    site, tmp_path = made / "site", made
    texts = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".webp"]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert str(tmp_path) not in text and str(Path.home()) + "/" not in text, path
        assert str(tmp_path).encode() not in path.read_bytes()
    assert "units net.pt -d photos" in (site / "index.html").read_text()


def test_names_are_data_wherever_they_come_from(tmp_path: Path) -> None:
    names = (
        "\" onerror=\"window.hacked=1\".png", "<script>hacked=1<&.png", "%41#?x=1&y.png",
        "half\udcff.png", "собака 犬.png", "' style='color:red.png",
    )  # fmt: skip
    for number, name in enumerate(names):
        grey = np.full((32, 32, 3), 30 * number, np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / "photos" / name)
    kinds = (HOSTILE, HOSTILE, HOSTILE, HOSTILE, "</script>", "a,b\n")
    hostile = ImageSet(tmp_path / "photos", names, "classes", kinds)
    workspace, layer = tmp_path / "ws", HOSTILE.replace("/", "∕")
    respond(workspace, hostile, "conv5")
    summary = workspace / "units" / "conv5" / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "layer": layer}))
    write_site(workspace, tmp_path / "site")
    assert dead_links(tmp_path / "site") == []
    for path, page in pages(tmp_path / "site").items():
        scripts = [said["src"] for tag, said in page.tags if tag == "script"]
        assert {Path(str(script)).name for script in scripts} <= {"site.js", "units.js"}, path
        assert not [said for _, said in page.tags if any(key.startswith("on") for key in said)]
        assert not [tag for tag, said in page.tags if said.get("src") == "x"]
    for path in (tmp_path / "site").rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
    assert HOSTILE in listed(tmp_path / "site")["words"]


def test_folders_have_names_that_any_disk_takes() -> None:
    names = ["a/b", "a:b", "A_b", "aux", "com1.x", "..", "", "犬", "x" * 300]
    found = slugs_of(names)
    assert found[:5] == ["a_b", "a_b-2", "A_b-3", "aux_", "com1.x_"]
    assert len({one.casefold() for one in found}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,90}", one) for one in found)


def test_damaged_pictures_cost_only_themselves(workspace: Path, tmp_path: Path) -> None:
    layer = {one.name: one for one in unit_layers(workspace)}["conv4"]
    picture = layer.pages[0].top[0].picture
    assert picture is not None
    picture.write_bytes(picture.read_bytes()[:-40])
    (workspace / "visualize" / "conv3" / "7.png").write_bytes(b"no")
    told: list[str] = []
    write_site(workspace, tmp_path / "site", tell=lambda fault: told.append(fault.message))
    assert len(told) == 2 and picture.name in told[0] and "7.png" in told[1]
    assert dead_links(tmp_path / "site") == []
    assert not (tmp_path / "site" / "images" / picture.name).exists()
    assert "4.png" in (tmp_path / "site" / "units" / "conv4" / "0.html").read_text()


def test_numbers_that_are_none_are_null(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = unit_layers(workspace)
    object.__setattr__(layers[0].pages[0], "mean", float("nan"))
    monkeypatch.setattr(sites, "unit_layers", lambda _: layers)
    write_site(workspace, tmp_path / "site")
    said = (tmp_path / "site" / "units" / layers[0].folder / "0.json").read_text()
    assert json.loads(said)["mean"] is None


def test_units_that_were_dissected_alone_show_their_strips(tmp_path: Path) -> None:
    make_workspace(tmp_path / "ws", {"conv5": 5}, images=4)
    write_site(tmp_path / "ws", tmp_path / "site")
    assert dead_links(tmp_path / "site") == []
    text = (tmp_path / "site" / "units" / "conv5" / "1.html").read_text()
    assert re.search(r'<img src="\.\./\.\./pictures/[0-9a-f]{16}\.webp"', text)
    assert (tmp_path / "site" / "units" / "conv5" / "1.webp").is_file()
    assert not (tmp_path / "site" / "images").exists()
