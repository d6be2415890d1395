"""cluster, explain, outliers: what results depend on, what is kept, what a notebook gets."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.cluster import filters as growing
from cnnlens.cluster.tree import walk
from cnnlens.data.dataset import ImageSet
from cnnlens.data.given import GivenImage
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import mark
from cnnlens.methods.cluster import Cluster, ClusteredLayer
from cnnlens.methods.explain import Explain
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.outliers import Outliers
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.report import cluster_files
from cnnlens.report.cluster_files import EMBED
from cnnlens.report.clusters import category_trees
from cnnlens.report.figures import explained as explained_figure
from cnnlens.report.nested_trees import read_tree
from cnnlens.report.states import remarks
from cnnlens.settings import ExtractSettings
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

SIDE = 24
KINDS = ("ant", "bee", "cat")


def save_net(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    half = (0.5, 0.5, 0.5)
    net = ZOO["demo_net"].make(3).eval()
    save_checkpoint(path, net, "zoo:demo_net", Preprocess((SIDE, SIDE), half, half), list(KINDS))
    return path


def draw(folder: Path, names: tuple[str, ...], each: int = 4, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((SIDE, SIDE)).save(folder / name / f"{number}.png")
    return folder


def method(kind: Any, world: Path, **values: Any) -> Any:
    """One run on the world's data and workspace; values are those of the command's options."""
    opening = ModelSettings(mean=values.pop("mean", None))
    run = RunSettings(batch_size=values.pop("batch_size", 32), seed=values.get("seed") or 0)
    force = values.pop("force", False)
    net = world / values.pop("net", "net.pt")
    study = Study(Workspace(world / "ws", force), str(net), opening, run, Voice(quiet=True), force)
    own = kind is not Outliers
    given = {"data": world / ("kinds" if own else "strange"), **values}
    given.setdefault("layer", ("conv2",) if kind is Cluster else "conv2")
    return kind(study, *build(kind, given), page=False)


def done(kind: Any, world: Path, **values: Any) -> Any:
    one = method(kind, world, **values)
    carry_out(one)
    return one


def parts(world: Path, **values: Any) -> set[str]:
    """Parts of cluster that would be made now."""
    one = method(Cluster, world, **{"bootstrap": 2, **values})
    one.resolve()
    return {item.name for item in one.found[0].todo}


def photo(world: Path) -> Path:
    return world / "photos" / "x.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything was made; of the slow layouts that is only said."""
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0), save_net(world / "other.pt", 1)
    draw(world / "kinds", KINDS), draw(world / "strange", ("u",), seed=1)
    draw(world, ("photos",), each=2, seed=2)
    (world / "photos" / "0.png").rename(photo(world))
    one = method(Cluster, world, bootstrap=2)
    with mock.patch.object(ClusteredLayer, "_embed", said_to_be_made):
        carry_out(one)
    done(Explain, world, image=(photo(world),))
    done(Outliers, world, noise=2)
    return world


def said_to_be_made(layer: Any, *given: Any) -> Any:
    folder = layer.ledger.folder
    for file in EMBED:
        (folder / file).write_text("")
    Image.new("RGB", (4, 4)).save(folder / "umap.png")
    apart = {"vectors": {"silhouette": 0.1, "neighbours": 0.5, "chance": 0.3}}
    return {"images": 12, "layer": apart, "pixels": apart}
    yield


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed; sizes and times are the same, and places are the new ones."""
    world = Path(shutil.copytree(made, tmp_path / "world"))
    file = world / "ws" / "workspace.json"
    file.write_text(file.read_text().replace(str(made), str(world)))
    return world


def later(file: Path) -> None:
    """Say that a file of the same size was written a second later."""
    stat = file.stat()
    os.utime(file, (stat.st_atime, stat.st_mtime + 1))


def regrouped(world: Path) -> ImageSet:
    """The same images, one of them of another category."""
    images = open_data(world / "kinds")
    known = list(images.image_categories or ())
    return replace(images, image_categories=("bee", *known[1:]))


def as_half(world: Path) -> None:
    """Make the store anew, of half precision."""
    one = method(Cluster, world)
    one.resolve()
    study, images, layer = one.study, one.images, one.layers[0]
    list(study.fill(images, [layer], ExtractSettings("float16"), logits=True, force=True))


def another_layer(command: str) -> Callable[[Path], Mapping[str, Any]]:
    def change(world: Path) -> Mapping[str, Any]:
        folder = world / "ws" / command
        if (folder / "conv2").is_dir():
            shutil.copytree(folder / "conv2", folder / "conv3")
        return {"layer": ("conv3",) if command == "cluster" else "conv3"}

    return change


Change = Callable[[Path], Any] | Mapping[str, Any]  # of the files, or of the options


def applied(change: Change, world: Path) -> dict[str, Any]:
    found = change(world) if callable(change) else change
    return dict(found) if isinstance(found, Mapping) else {}


def touch(file: str) -> Callable[[Path], None]:
    return lambda world: later(world / file)


MODEL: dict[str, Change] = {"model": {"net": "other.pt"}, "preprocess": {"mean": "0.1,0.2,0.3"}}
ALL = {"categories", "filters", "embed"}
CLUSTER: dict[str, tuple[Change, set[str]]] = {
    **{name: (change, ALL) for name, change in MODEL.items()},
    "layer": (another_layer("cluster"), ALL),
    "an image": (touch("kinds/bee/1.png"), ALL),
    "one image fewer": (lambda world: (world / "kinds/bee/1.png").unlink(), ALL),
    "categories": (lambda world: {"data": regrouped(world)}, ALL),
    "type of the store": (as_half, ALL),
    "bootstrap": ({"bootstrap": 3}, {"categories"}),
    "noise": ({"noise": True}, {"categories"}),
    "seed": ({"seed": 1}, {"categories", "embed"}),
    "rule": ({"rule": "largest-change"}, {"filters"}),
    "neighbours": ({"neighbours": 3}, {"embed"}),
    "too many to compare all with all": ({"exact": 11}, {"embed"}),
    "few enough still": ({"exact": 12}, set()),
    "a tree is gone": (
        lambda world: (world / "ws/cluster/conv2/filters/ant.json").unlink(),
        {"filters"},
    ),
}


@pytest.mark.parametrize(("change", "redone"), CLUSTER.values(), ids=CLUSTER)
def test_what_depends_on_a_changed_input_is_clustered_anew(
    world: Path, change: Change, redone: set[str]
) -> None:
    assert parts(world) == set()
    assert parts(world, batch_size=3) == set()
    assert parts(world, **applied(change, world)) == redone


def test_filters_are_grown_anew_when_other_things_are_known_of_units(world: Path) -> None:
    with mock.patch("cnnlens.report.dissect_files.detected", return_value={3: "hair, IoU 0.2"}):
        assert parts(world) == {"filters"}


def explained(world: Path, **values: Any) -> bool:
    """Whether the photo would count as explained."""
    one = method(Explain, world, image=(photo(world),), **values)
    one.resolve()
    one.plan()
    return bool(one.names)


EXPLAIN: dict[str, Change] = {
    **MODEL,
    "layer": another_layer("explain"),
    "image": lambda world: Image.new("RGB", (9, 9)).save(photo(world)),
    "data": touch("kinds/cat/0.png"),
    "categories": lambda world: {"data": regrouped(world)},
    "type of the store": as_half,
    "rule": {"rule": "largest-change"},
    "picture gone": lambda world: (world / "ws/explain/x.png").unlink(),
}


@pytest.mark.parametrize("change", EXPLAIN.values(), ids=EXPLAIN)
def test_an_image_is_explained_anew_when_an_input_changed(world: Path, change: Change) -> None:
    assert explained(world)
    assert not explained(world, **applied(change, world))


def test_an_image_is_explained_anew_when_a_unit_was_optimized(world: Path) -> None:
    drawn = world / "ws" / "visualize" / "conv2" / "3.png"
    drawn.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(drawn)
    assert not explained(world)
    done(Explain, world, image=(photo(world),))
    os.utime(drawn, (1, 1))
    assert explained(world)  # it is what the picture shows that counts
    Image.new("RGB", (8, 8), "red").save(drawn)
    assert not explained(world)


def test_an_image_is_explained_anew_when_its_folder_says_what_it_is(world: Path) -> None:
    file = world / "photos" / "x.png"
    with mock.patch.object(Explain, "_true", lambda self, image: {"category": "cat"}):
        assert not explained(world)
    inside = done(Explain, world, image=(next((world / "kinds" / "cat").glob("*.png")),)).document()
    assert inside["true"] == {"category": "cat", "known_from": "the data"}
    assert inside["right"] == (inside["class_name"] == "cat")
    (world / "cat").mkdir()
    copied = shutil.copy(file, world / "cat" / "other.png")
    beside = done(Explain, world, image=(Path(copied),)).document()
    assert beside["true"] == {"category": "cat", "known_from": "its folder"}


def test_a_copy_of_an_image_of_the_data_is_what_the_data_says(world: Path) -> None:
    one = method(Explain, world, image=(photo(world),))
    one.resolve()

    def true(file: Path) -> object:
        return one._true(GivenImage(file, "x"))

    known = sorted((world / "kinds" / "cat").glob("*.png"))
    (world / "ant").mkdir()
    moved = Path(shutil.copy(known[0], world / "ant" / "z.png"))
    assert true(moved) == {"category": "cat", "known_from": "its copy in the data"}
    changed = bytearray(known[0].read_bytes())
    changed[-1] ^= 1  # as long, and another image
    moved.write_bytes(changed)
    assert true(moved) == {"category": "ant", "known_from": "its folder"}
    shutil.copy(known[0], world / "kinds" / "ant" / "0.png")
    one = method(Explain, world, image=(photo(world),))
    one.resolve()
    assert true(Path(shutil.copy(known[0], world / "copy.png"))) is None  # the data says both


def test_an_image_is_explained_anew_where_classes_are_judged_otherwise(world: Path) -> None:
    with mock.patch("cnnlens.methods.explain._VERDICTS", 1):
        assert not explained(world)


def test_an_image_is_explained_anew_when_other_things_are_known(world: Path) -> None:
    with mock.patch("cnnlens.report.dissect_files.detected", return_value={3: "hair, IoU 0.2"}):
        assert not explained(world)
    one = method(Explain, world, image=(photo(world),))
    one.study.model.classes = ["hen", "bee", "cat"]
    one.resolve()
    one.plan()
    assert not one.names


def measured(world: Path, **values: Any) -> bool:
    """Whether outliers would count as measured."""
    one = method(Outliers, world, **{"noise": 2, **values})
    one.resolve()
    one.plan()
    return bool(one.made)


OUTLIERS: dict[str, Change] = {
    **MODEL,
    "layer": {"layer": "conv3"},
    "noise": {"noise": 3},
    "seed": {"seed": 1},
    "out-of-sample images": touch("strange/u/0.png"),
    "their categories": lambda world: {
        "data": replace(open_data(world / "strange"), image_categories=tuple("uuvv"))
    },
    "none of them": {"data": None},
    "own images": touch("kinds/ant/0.png"),
    "type of the own store": as_half,
    "picture gone": lambda world: (world / "ws/outliers/noise.png").unlink(),
}


@pytest.mark.parametrize("change", OUTLIERS.values(), ids=OUTLIERS)
def test_outliers_are_measured_anew_when_an_input_changed(world: Path, change: Change) -> None:
    assert measured(world)
    assert not measured(world, **applied(change, world))


def test_outliers_are_measured_anew_when_classes_are_called_otherwise(world: Path) -> None:
    one = method(Outliers, world, noise=2)
    one.study.model.classes = ["hen", "bee", "cat"]
    one.resolve()
    one.plan()
    assert not one.made


def test_outliers_that_were_measured_are_left_alone(world: Path) -> None:
    file = world / "ws" / "outliers" / "outliers.json"
    before = file.stat().st_mtime_ns
    assert done(Outliers, world, noise=2).document() == json.loads(file.read_text())
    assert file.stat().st_mtime_ns == before


def test_the_default_data_stay_the_default_when_they_are_looked_at_as_strangers(
    world: Path,
) -> None:
    done(Outliers, world, noise=0, data=world / "kinds")
    entry = Workspace(world / "ws").data_entry(("classes",))
    assert entry is not None and Path(entry["path"]) == (world / "kinds").resolve()


# ---- what was finished is kept


def count_trees(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many images every tree of filters that is grown has."""
    grown: list[int] = []
    real = growing.filter_tree

    def counted(maps: np.ndarray, rule: str = "argmin") -> Any:
        grown.append(len(maps))
        return real(maps, rule)

    monkeypatch.setattr(growing, "filter_tree", counted)
    return grown


def test_categories_whose_trees_were_grown_are_kept_when_it_is_stopped(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"only": "filters", "rule": "largest-change"}
    drawn = [Image.new("RGB", (4, 4)), KeyboardInterrupt]
    with (
        mock.patch.object(cluster_files.filters, "draw_tree", side_effect=drawn),
        pytest.raises(KeyboardInterrupt),
    ):
        done(Cluster, world, **wanted)
    grown = count_trees(monkeypatch)
    found = done(Cluster, world, **wanted).document()["filters"]
    assert len(grown) == 2  # of three
    assert [one["category"] for one in found["categories"]] == list(KINDS)
    assert found["made_from"]["settings"] == {"rule": "largest-change"}


def test_trees_that_a_stopped_run_wrote_over_are_not_those_of_before(world: Path) -> None:
    folder = world / "ws" / "cluster" / "conv2" / "filters"
    before = {file.name: file.read_bytes() for file in folder.glob("*.png")}
    drawn = [Image.new("RGB", (4, 4)), KeyboardInterrupt]
    with (
        mock.patch.object(cluster_files.filters, "draw_tree", side_effect=drawn),
        pytest.raises(KeyboardInterrupt),
    ):
        done(Cluster, world, only="filters", rule="largest-change")
    assert {file.name: file.read_bytes() for file in folder.glob("*.png")} != before
    done(Cluster, world, only="filters")
    assert {file.name: file.read_bytes() for file in folder.glob("*.png")} == before


def test_one_tree_that_is_gone_is_grown_alone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world / "ws" / "cluster" / "conv2" / "filters" / "bee.json"
    before = file.read_bytes()
    file.unlink()
    grown = count_trees(monkeypatch)
    done(Cluster, world, only="filters")
    assert len(grown) == 1
    assert file.read_bytes() == before


def test_a_category_named_like_a_mark_of_another_has_a_file_of_its_own(tmp_path: Path) -> None:
    save_net(tmp_path / "net.pt", 0)
    draw(tmp_path / "kinds", ("cat", "cat.done"))
    for _ in range(2):
        found = done(Cluster, tmp_path, only="filters").document()["filters"]
        folder = tmp_path / "ws" / "cluster" / "conv2"
        for one in found["categories"]:
            leaves = walk(read_tree(folder / "filters" / f"{one['file']}.json"))
            images = {leaf["image"] for leaf in leaves if "image" in leaf}
            assert {image.partition("/")[0] for image in images} == {one["category"]}


def test_a_result_that_does_not_say_what_it_was_made_from_is_made_anew(world: Path) -> None:
    for file in ("cluster/conv2/summary.json", "explain/x.json", "outliers/outliers.json"):
        document = json.loads((world / "ws" / file).read_text())
        document.pop("made_from", None)
        document.get("filters", {}).pop("made_from", None)
        (world / "ws" / file).write_text(json.dumps(document))
    assert parts(world) == {"filters"}
    assert not explained(world)
    assert not measured(world)


def test_images_that_were_explained_are_kept_when_it_is_stopped(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = sorted((world / "strange" / "u").glob("*.png"))
    drawn: list[Image.Image] = []
    real = explained_figure.draw_explained

    def stopped(*what: Any) -> Image.Image:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(real(*what))
        return drawn[-1]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(explained_figure, "draw_explained", stopped)
        done(Explain, world, image=photos)
    drawn.clear()
    one = method(Explain, world, image=photos)
    one.resolve()
    one.plan()
    assert sorted(one.names.values()) == ["0", "1"]
    assert sorted(done(Explain, world, image=photos).document()["images"]) == ["0", "1", "2", "3"]


def test_an_explanation_that_a_stopped_run_drew_over_is_not_that_of_before(world: Path) -> None:
    photo = world / "strange" / "u" / "0.png"
    before = done(Explain, world, image=[photo]).document()
    picture = next((world / "ws" / "explain").rglob("0.png"))
    truth = picture.read_bytes()
    with (
        mock.patch.object(explained_figure, "draw_explained", lambda *_: Image.new("RGB", (4, 4))),
        mock.patch("cnnlens.files.write_json", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        done(Explain, world, image=[photo], rule="largest-change")
    assert picture.read_bytes() != truth
    assert done(Explain, world, image=[photo]).document() == before
    assert picture.read_bytes() == truth


# ---- explain: pictures of other categories


def test_a_named_category_does_not_replace_the_predicted_one_s_picture(world: Path) -> None:
    folder = world / "ws" / "explain"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    predicted = json.loads(before["x.json"])["category"]
    other = next(name for name in KINDS if name != predicted)
    found = done(Explain, world, image=(photo(world),), class_=other).document()
    assert found["file"] == f"x-{other}.png"
    assert found["category"] == other
    now = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert sorted(now) == ["x-" + other + ".json", "x-" + other + ".png", "x.json", "x.png"]
    assert {name: now[name] for name in before} == before
    # each is found again: by its name, by the prediction's, by none
    for category in (other, predicted, None):
        again = done(Explain, world, image=(photo(world),), class_=category).document()
        assert again["category"] == (category or predicted)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == now


def test_an_image_named_like_another_s_picture_gets_a_name_of_its_own(world: Path) -> None:
    predicted = json.loads((world / "ws/explain/x.json").read_text())["category"]
    other = next(name for name in KINDS if name != predicted)
    done(Explain, world, image=(photo(world),), class_=other)
    twin = photo(world).with_name(f"x-{other}.png")
    shutil.copy(world / "photos" / "1.png", twin)
    before = (world / "ws" / "explain" / f"x-{other}.json").read_text()
    found = done(Explain, world, image=(twin,)).document()
    assert found["image"].endswith(twin.name)
    assert (world / "ws" / "explain" / f"x-{other}.json").read_text() == before


def test_a_category_that_is_none_is_said_before_anything_is_written(world: Path) -> None:
    shutil.rmtree(world / "ws")
    with pytest.raises(Exception, match="no category 'cot'"):
        done(Explain, world, image=(photo(world),), class_="cot")
    assert not (world / "ws").exists()


# ---- what is found


def test_categories_are_those_that_the_data_say_now(world: Path) -> None:
    images = regrouped(world)
    renamed = tuple(f"my {name}" for name in images.image_categories or ())
    data = replace(images, image_categories=renamed)
    found = done(Cluster, world, only="categories", bootstrap=0, data=data).result()
    assert set(found.names) == {f"my {name}" for name in KINDS}
    leaves = {n["name"]: n["images"] for n in walk(found.categories) if "name" in n}
    assert leaves == {"my ant": 3, "my bee": 5, "my cat": 4}


def test_parts_that_were_not_made_are_named_with_what_makes_them(world: Path) -> None:
    shutil.rmtree(world / "ws" / "cluster")
    bare = done(Cluster, world, only="confusion").result()
    for ask in (lambda: bare.categories, lambda: bare.distances, bare.table):
        with pytest.raises(CnnlensError, match="tree of categories of conv2 was not made") as error:
            ask()
        assert "--only categories" in error.value.hint
    found = done(Cluster, world, only="categories", bootstrap=0).result()
    assert found.table() == [{"category": name, "images": 4} for name in KINDS]
    with pytest.raises(CnnlensError, match="layout of conv2 was not made") as error:
        found.layout()
    assert "--only embed" in error.value.hint
    with pytest.raises(CnnlensError, match="forest of filters of conv2 was not made"):
        list(found)
    with pytest.raises(UsageError, match="no layout of layer in 4 dimensions"):
        found.layout(dimensions=4)


def test_a_layer_s_trees_are_read_back(world: Path) -> None:
    found = method(Cluster, world, only="filters")
    carry_out(found)
    result = found.result()
    assert result.distances.shape == (3, 3)
    assert np.allclose(np.diag(result.distances), 0)
    assert list(result) == [result[row["category"]] for row in result.table()]
    images = {leaf["image"] for leaf in walk(result["bee"]) if "image" in leaf}
    assert images == {f"bee/{number}.png" for number in range(4)}
    assert [row["category"] for row in result.table()] == list(KINDS)
    assert result.table()[0]["images"] == 4
    page = result._repr_html_()
    assert "first to merge" in page
    assert "chance 30%" in page
    assert page.count("data:image/webp") == 5  # the dendrogram, layouts, three trees
    with pytest.raises(KeyError, match="ant, bee, cat"):
        result["dog"]


def test_explanations_and_outliers_are_read_back(world: Path) -> None:
    pictures = done(Explain, world, image=(photo(world),)).result()
    assert pictures["x"].size[0] > 400 and pictures[0] == pictures["x"]
    assert pictures.table()[0]["category"] in KINDS
    result = done(Outliers, world, noise=2).result()
    assert result.table()[0]["source"] == "u"
    assert result.noise is not None
    assert result._repr_html_().count("data:image/webp") == 2
    shares = [row["share"] for row in result.table() if row["source"] == "u"]
    assert sum(shares) == pytest.approx(1)


def test_what_is_shared_names_no_folder_of_the_machine(world: Path, made: Path) -> None:
    for file in (world / "ws").rglob("*"):
        if file.suffix in (".json", ".csv", ".nwk") and file.name != "workspace.json":
            text = file.read_text()
            assert str(made) not in text
            assert str(made.parent) not in text


def test_what_will_be_done_is_said(world: Path) -> None:
    one = method(Cluster, world, bootstrap=50, rule="largest-change", neighbours=3)
    one.resolve()
    assert one.plan() == (
        "conv2: a tree of 3 categories with 50 resamples, 3 trees of filters, "
        "an embedding of 12 images"
    )
    many = method(Cluster, world, neighbours=3, exact=11)
    many.resolve()
    assert many.plan() == (
        "conv2: a tree of 3 categories with 100 resamples, "
        "an embedding of 12 images, neighbours approximate beyond --exact 11"
    )
    strangers = method(Outliers, world, noise=5)
    strangers.resolve()
    words = "4 images of strange, 5 random images of each kind, regions of 12 images of kinds"
    assert strangers.plan() == words


def test_equal_values_have_equal_marks() -> None:
    assert mark({1: "a", 2: "b"}) == mark({1: "a", 2: "b"})
    assert mark({1: "a"}) != mark({1: "b"})
    assert mark(None) != mark([])


def dissected(world: Path, label: str) -> None:
    """Say that all units of conv2 detect it."""
    table = world / "ws" / "dissect" / "conv2" / "units.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = (f"{unit},{label},object,0.2,true" for unit in range(64))
    table.write_text("\n".join(["unit,label,category,iou,is_detector", *rows, ""]))


def test_trees_and_paths_with_labels_of_an_earlier_dissect_are_said(world: Path) -> None:
    def again() -> str:
        done(Cluster, world, only="filters")
        done(Explain, world, image=(photo(world),))
        tree = next((world / "ws/cluster/conv2/filters").glob("*.json")).read_text()
        return tree + (world / "ws/explain/x.json").read_text()

    space = world / "ws"
    dissected(world, "hair")
    assert remarks(space) == []  # they bear no labels
    assert again().count("hair, IoU 0.20") > 1
    assert remarks(space) == []
    dissected(world, "sky")
    trees, paths = remarks(space)
    assert (trees.sections, paths.sections) == (("filters",), ("explain",))
    assert "trees of filters of conv2 bear labels of an earlier dissect" in trees.text
    assert "x was explained with labels of an earlier dissect" in paths.text
    assert "hair" not in again()
    assert remarks(space) == []


def test_a_trees_caption_says_how_many_trees_its_numbers_are_of(world: Path) -> None:
    def caption() -> str:
        section = category_trees(world / "ws")
        assert section is not None
        return str(section.parts[0].blocks[1].caption)

    assert "in how many per cent of 2 trees from images drawn anew" in caption()
    done(Cluster, world, only="categories", bootstrap=0)
    assert caption() == "Tree of categories."


def cut_short(store: Path) -> None:
    store.write_bytes(store.read_bytes()[:900])


def one_block_spoilt(store: Path) -> None:
    import h5py

    with h5py.File(store, "r+") as file:
        block = file["activations"].id.get_chunk_info(0)
    data = bytearray(store.read_bytes())
    data[block.byte_offset + block.size // 2] ^= 255
    store.write_bytes(data)


def of_other_images(store: Path) -> None:
    world, data = store.parents[3], store.parent.name
    later(world / data / ("u/0.png" if data == "strange" else "bee/1.png"))


FORCED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "cluster": (Cluster, "kinds", {"bootstrap": 0, "only": "categories"}),
    "explain": (Explain, "kinds", {}),
    "outliers, known images": (Outliers, "kinds", {"noise": 2}),
    "outliers, strangers": (Outliers, "strange", {"noise": 2}),
}


@pytest.mark.parametrize("harm", [cut_short, one_block_spoilt, of_other_images])
@pytest.mark.parametrize(("kind", "data", "values"), FORCED.values(), ids=FORCED)
def test_force_makes_a_lost_store_anew(
    world: Path, kind: Any, data: str, values: dict[str, Any], harm: Callable[[Path], None]
) -> None:
    if kind is Explain:
        values = {"image": (photo(world),)}
    store = world / "ws" / "activations" / data / "conv2.h5"
    with Store(store) as good:
        rows = len(good)
    harm(store)
    done(kind, world, **values, force=True)
    with Store(store) as anew:
        assert sum(len(maps) for _, maps in anew) == rows


@pytest.mark.parametrize(("kind", "data", "values"), FORCED.values(), ids=FORCED)
def test_force_keeps_a_good_store(
    world: Path, kind: Any, data: str, values: dict[str, Any]
) -> None:
    if kind is Explain:
        values = {"image": (photo(world),)}
    store = world / "ws" / "activations" / data / "conv2.h5"
    before = store.stat().st_mtime_ns
    done(kind, world, **values, force=True)
    assert store.stat().st_mtime_ns == before


def test_trees_of_filters_of_a_category_that_has_gone_are_removed(world: Path) -> None:
    filters = world / "ws" / "cluster" / "conv2" / "filters"
    (filters / "notes.txt").write_text("mine")
    shutil.rmtree(world / "kinds" / "bee")
    done(Cluster, world, only="filters", force=True)
    names = {file.name for file in filters.iterdir()}
    endings = ("json", "nwk", "png", "webp")
    trees = {f"{kind}.{ending}" for kind in ("ant", "cat") for ending in endings}
    assert names == trees | {"notes.txt"}
