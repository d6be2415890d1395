from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.cluster.filters import filter_tree
from cnnlens.cluster.tree import walk

from .photos import write_nets
from .runner import cnnlens, files

SIZE = ["--image-size", "48"]
EVIL = ['king\'s (old); "x", y:z', "ключ 猫", "a_b", "<script>alert(1)<script>"]


def write_classes(folder: Path, names: list[str], each: int = 6, seed: int = 0) -> Path:
    """Class folders; each class has a colour of its own, and noise on it."""
    rng = np.random.default_rng(seed)
    for name in names:
        colour = rng.integers(0, 256, 3)
        below = folder / name
        below.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            coarse = np.clip(colour + rng.normal(0, 60, (5, 6, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(coarse).resize((60, 50)).save(below / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_nets(folder)
    write_classes(folder / "kinds", ["ant", "bee", "cat"])
    return folder


@pytest.fixture(scope="module")
def done(world: Path) -> Path:
    """A workspace in which everything but the embedding was made."""
    space = world / "space"
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", space]
    for only in ("categories", "filters"):
        answer = cnnlens("cluster", *model, "--only", only, "--bootstrap", 20)
        assert answer.code == 0, answer.err
    return space


def results(space: Path) -> Path:
    (folder,) = (space / "cluster").iterdir()
    return folder


def test_writes_every_file_of_the_contract(done: Path) -> None:
    folder = results(done)
    tree = json.loads((folder / "categories.json").read_text())
    leaves = [node["name"] for node in walk(tree) if "name" in node]
    assert sorted(leaves) == ["ant", "bee", "cat"]
    inner = [node for node in walk(tree) if "children" in node]
    assert all(len(node["children"]) == 2 for node in inner)
    supports = [node["support"] for node in inner if node is not tree]
    assert tree["support"] is None and all(0 <= support <= 1 for support in supports)
    with (folder / "mst.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert list(rows[0]) == ["a", "b", "distance"]
    assert (folder / "categories.nwk").read_text().endswith(";\n")
    for name in ("dendrogram.png", "mst.png", "distances.png", "filters/ant.png"):
        with Image.open(folder / name) as picture:
            picture.verify()


def test_trees_of_filters_are_those_of_the_stored_activations(done: Path) -> None:
    (path,) = (done / "activations").rglob("*.h5")
    with Store(path) as store:
        rows = np.flatnonzero(np.array(store.categories) == "bee")
        maps = np.concatenate([m for _, m in store.batches()])[rows]
        images = [store.images[row] for row in rows]
    wanted = filter_tree(maps)
    tree = json.loads((results(done) / "filters" / "bee.json").read_text())
    nodes = [node for node in walk(tree) if "children" in node and node["distance"] is not None]
    assert sorted(n["distance"] for n in nodes) == pytest.approx(sorted(wanted.distances))
    found = sorted(n["image"] for n in walk(tree) if "image" in n)
    assert found == [images[leaf] for leaf in wanted.leaves]
    filters = sorted(n["critical_filter"] for n in nodes if n["critical_filter"] is not None)
    assert filters == sorted(wanted.critical[wanted.critical >= 0].tolist())


def test_nodes_show_what_their_filter_wants_to_see(done: Path, tmp_path: Path) -> None:
    space = shutil.copytree(done, tmp_path / "space")
    tree = json.loads((results(space) / "filters" / "bee.json").read_text())
    # unit 3 is dead: it has no picture
    unit = next(
        n["critical_filter"] for n in walk(tree) if n.get("critical_filter") not in (None, 3)
    )
    layer = json.loads((results(space) / "summary.json").read_text())["layer"]
    words = ["-f", f"{layer}:{unit}", "--steps", 60, "-w", space]
    answer = cnnlens("visualize", *words)
    assert answer.code == 0, answer.err
    page = (space / "report.html").read_text()
    key = f"visualize/{results(space).name}/{unit}.png"
    (wanted,) = re.findall(r'"wants": ?(\{[^}]*\})', page)
    assert json.loads(wanted) == {str(unit): key}


def test_without_arguments_it_goes_on_in_the_workspace_and_redoes_nothing(done: Path) -> None:
    before = files(done / "cluster")
    stores = files(done / "activations")
    answer = cnnlens("cluster", "-w", done, "--only", "categories", "--bootstrap", 20, "--json")
    assert answer.code == 0, answer.err
    assert "done before" in answer.err
    assert answer.json["categories"]["categories"] == 3
    assert files(done / "cluster") == before
    assert files(done / "activations") == stores


def test_works_after_extract_of_class_folders(world: Path, tmp_path: Path) -> None:
    model = f"{world / 'nets.py'}:rgb"
    words = ["extract", model, *SIZE, "-d", world / "kinds", "-w", tmp_path, "--no-logits"]
    assert cnnlens(*words).code == 0
    stores = files(tmp_path / "activations")
    answer = cnnlens("cluster", "-w", tmp_path, "--only", "categories", "--no-page")
    assert answer.code == 0, answer.err
    assert files(tmp_path / "activations") == stores  # the model was not run


def test_without_data_it_says_what_is_missing(world: Path, tmp_path: Path) -> None:
    answer = cnnlens("cluster", f"{world / 'nets.py'}:rgb", *SIZE, "-w", tmp_path)
    assert answer.code == 2
    assert "class-folder" in answer.error
    assert "-d DIR" in answer.err
    assert cnnlens("cluster", "-w", tmp_path / "none").code == 2


def test_data_without_categories_say_what_is_needed(world: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(world / "kinds" / "ant", flat)
    model = f"{world / 'nets.py'}:rgb"
    answer = cnnlens("cluster", model, *SIZE, "-d", flat, "-w", tmp_path / "w")
    assert answer.code == 2
    assert "no categories" in answer.error
    assert "subfolder per category" in answer.err


@pytest.mark.parametrize("words", [["--only", "filter"], ["--rule", "smallest"], ["-l", "conv9"]])
def test_unknown_words_name_what_there_is(world: Path, tmp_path: Path, words: list[str]) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", tmp_path]
    answer = cnnlens("cluster", *model, *words)
    assert answer.code == 2
    assert words[1] in answer.error
    assert not (tmp_path / "cluster").exists()


def test_hostile_names_reach_no_other_place_and_collide_nowhere(
    world: Path, tmp_path: Path
) -> None:
    names = [*EVIL, "a+b", "A_b"]
    data = write_classes(tmp_path / "evil", names, each=3)
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", data, "-w", tmp_path / "w"]
    for only in ("categories", "filters"):
        answer = cnnlens("cluster", *model, "--only", only, "--bootstrap", 5)
        assert answer.code == 0, answer.err
    folder = results(tmp_path / "w")
    trees = sorted(p.name for p in (folder / "filters").glob("*.json"))
    assert len(trees) == 6
    assert len({name.casefold() for name in trees}) == 6
    tree = json.loads((folder / "categories.json").read_text(encoding="utf-8"))
    assert {n["name"] for n in walk(tree) if "name" in n} == set(names)
    page = (tmp_path / "w" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    newick = (folder / "categories.nwk").read_text(encoding="utf-8")
    assert "'king''s (old); \"x\", y:z'" in newick


def test_one_image_per_category_and_identical_images(world: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "one", ["a", "b", "c"], each=1)
    (data / "d").mkdir()
    shutil.copy(data / "a" / "00.png", data / "d" / "00.png")
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", data, "-w", tmp_path / "w"]
    for only in ("categories", "filters"):
        answer = cnnlens("cluster", *model, "--only", only, "--json")
        assert answer.code == 0, answer.err
    found = answer.json
    assert found["categories"]["first_merge"] == ["a", "d"]
    assert found["categories"]["first_support"] is None
    assert [c["merges"] for c in found["filters"]["categories"]] == [0, 0, 0, 0]


def test_noise_is_one_more_category(world: Path, tmp_path: Path) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", tmp_path]
    answer = cnnlens("cluster", *model, "--only", "categories", "--noise", "--json", "--no-page")
    assert answer.json["categories"]["categories"] == 4
    tree = json.loads((results(tmp_path) / "categories.json").read_text())
    assert "noise" in {n["name"] for n in walk(tree) if "name" in n}


def test_a_damaged_summary_is_named_and_force_makes_it_anew(world: Path, tmp_path: Path) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", tmp_path]
    words = [*model, "--only", "categories", "--no-page"]
    assert cnnlens("cluster", *words).code == 0
    (results(tmp_path) / "summary.json").write_text("{")
    answer = cnnlens("cluster", *words)
    assert answer.code == 1
    assert "summary.json is damaged" in answer.error
    assert cnnlens("cluster", *words, "--force").code == 0


@pytest.mark.filterwarnings("ignore")
def test_copies_are_nobodys_neighbours(world: Path, tmp_path: Path) -> None:
    """Noise, more copies of each image of one class than of another: the same as without them."""
    rng, found = np.random.default_rng(3), {}
    pictures = rng.integers(0, 256, (18, 48, 48, 3)).astype(np.uint8)
    for data, copies in (("once", (1, 1, 1)), ("copied", (4, 2, 1))):
        for number, picture in enumerate(pictures):
            for copy in range(copies[number % 3]):
                path = tmp_path / data / "abc"[number % 3] / f"{number}_{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
        words = [f"{world / 'nets.py'}:rgb", *SIZE, "-w", tmp_path / f"w {data}", "--json"]
        cluster = [*words, "-d", tmp_path / data, "--only", "embed", "--neighbours", 2]
        answer = cnnlens("cluster", *cluster, "--no-page")
        assert ("24 images of copied equal to earlier ones" in answer.err) == (data == "copied")
        embed = answer.json["embed"]
        clusters = cnnlens("outliers", *words, "--noise", 4, "--no-page").json["regions"][
            "clusters"
        ]
        found[data] = embed["layer"]["vectors"], embed["pixels"]["vectors"], clusters
    for once, copied in zip(found["once"][:2], found["copied"][:2], strict=True):
        assert (
            set(once) == set(copied) == {"neighbours", "chance", "silhouette", "silhouette_chance"}
        )
        assert abs(copied["neighbours"] - once["neighbours"]) < 0.01
        assert abs(copied["silhouette"] - once["silhouette"]) < 1e-4
        assert abs(copied["chance"] - once["chance"]) < 0.15  # shuffled in another order
    purity = found["copied"][2]["purity"], found["copied"][2]["chance"]["purity"]["mean"]
    assert abs(purity[1] - found["once"][2]["chance"]["purity"]["mean"]) < 0.08
    assert purity[0] * 18 == pytest.approx(round(purity[0] * 18))  # of eighteen images


@pytest.mark.filterwarnings("ignore")
def test_layouts_are_written_measured_and_the_same_again(world: Path, tmp_path: Path) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", tmp_path]
    words = [*model, "--only", "embed", "--neighbours", 4, "--json"]
    answer = cnnlens("cluster", *words)
    assert answer.code == 0, answer.err
    embed = answer.json["embed"]
    assert embed["pixels_size"] == [48, 48]
    assert embed["pixels"]["vectors"]["neighbours"] > embed["pixels"]["vectors"]["chance"]
    tables = {p.name: p.read_bytes() for p in results(tmp_path).glob("umap*.csv")}
    assert sorted(tables) == ["umap.csv", "umap_3d.csv", "umap_pixels.csv", "umap_pixels_3d.csv"]
    header, *rows = tables["umap_3d.csv"].decode().splitlines()
    assert (header, len(rows)) == ("image,category,x,y,z", 18)
    assert cnnlens("cluster", *words, "--force").code == 0
    assert {p.name: p.read_bytes() for p in results(tmp_path).glob("umap*.csv")} == tables
    page = (tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    places = np.array(data["embed"]["layers"][0]["flat"][0])
    assert places.shape == (18, 2)
    assert places.min() >= 0
    assert places.max() == pytest.approx(1)


@pytest.mark.filterwarnings("ignore")
def test_beyond_exact_what_was_found_of_the_neighbours_is_said_everywhere(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnlens.cluster.neighbours._CELL", 6)  # three cells of 18 images
    monkeypatch.setattr("cnnlens.cluster.neighbours._AMONG", 1)
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", world / "kinds", "-w", tmp_path]
    words = [*model, "--only", "embed", "--neighbours", 4]
    answer = cnnlens("cluster", *words, "--exact", 17)
    assert answer.code == 0, answer.err
    found = json.loads((results(tmp_path) / "summary.json").read_text())["embed"]
    shares = [found[side]["recall"] for side in ("layer", "pixels")]
    assert all(0.2 < share <= 1 for share in shares) and min(shares) < 1
    said = f"{shares[0]:.1%} of a sample's nearest neighbours were found"
    assert said in answer.err and f"({shares[1]:.1%} among raw pixels)" in answer.err
    assert said in html.unescape((tmp_path / "report.html").read_text())
    near = {p.name: p.read_bytes() for p in results(tmp_path).glob("umap*.csv")}
    answer = cnnlens("cluster", *words, "--exact", 18)  # all are compared with all
    assert answer.code == 0 and "neighbours were found" not in answer.err
    found = json.loads((results(tmp_path) / "summary.json").read_text())["embed"]
    assert "recall" not in found["layer"] and "recall" not in found["pixels"]
    assert "neighbours were found" not in (tmp_path / "report.html").read_text()
    assert {p.name: p.read_bytes() for p in results(tmp_path).glob("umap*.csv")} != near


# ---- explain


def explained(space: Path, file: str) -> dict[str, Any]:
    """What stands beside a picture."""
    document: dict[str, Any] = json.loads(
        (space / "explain" / file).with_suffix(".json").read_text()
    )
    return document


def test_an_image_of_the_tree_ends_at_itself(world: Path, done: Path) -> None:
    image = world / "kinds" / "bee" / "03.png"
    answer = cnnlens("explain", "-i", image, "-w", done, "--class", "bee", "--json")
    assert answer.code == 0, answer.err
    found = explained(done, answer.json["file"])
    assert found["leaf"] == {"image": "bee/03.png", "distance": pytest.approx(0, abs=1e-6)}
    assert answer.json == found
    tree = json.loads((results(done) / "filters" / "bee.json").read_text())
    node: Any = tree
    for split in found["path"]:
        while node["distance"] is None:  # several subtrees: the one that the image is in
            node = next(c for c in node["children"] if _holds(c, "bee/03.png"))
        assert split["critical_filter"] == node["critical_filter"]
        assert split["distance"] == pytest.approx(node["distance"])
        assert split["to_chosen"] <= split["to_other"]
        node = next(c for c in node["children"] if _holds(c, "bee/03.png"))
    assert (done / "explain" / found["file"]).is_file()
    assert "raw" not in found
    words = ("explain", "-i", image, "-w", done, "--class", "bee")
    assert "explained before" not in cnnlens(*words, "--raw").err  # its arrays are not there
    assert "explained before" in cnnlens(*words, "--raw").err
    with np.load(done / "explain" / explained(done, found["file"])["raw"]) as arrays:
        with Image.open(image) as photo:
            size = arrays["image"].shape[1:]
            truth = np.asarray(photo.convert("RGB").resize(size[::-1]), np.float32) / 255
        assert abs(arrays["image"].transpose(1, 2, 0) - truth).mean() < 0.05
        assert arrays["heat"].ndim == 2
    assert 'id="explain"' in (done / "report.html").read_text()


def _holds(tree: Any, image: str) -> bool:
    return any(node.get("image") == image for node in walk(tree))


def test_activations_stand_against_those_of_the_data(world: Path, done: Path) -> None:
    image = world / "kinds" / "cat" / "01.png"
    answer = cnnlens("explain", "-i", image, "-w", done, "--class", "cat", "--json")
    (path,) = (done / "activations").rglob("*.h5")
    with Store(path) as store:
        maps = np.concatenate([m for _, m in store.batches()])
        mine = store.images.index("cat/01.png")
        images = np.array(store.images)
    for split in explained(done, answer.json["file"])["path"]:
        if split["critical_filter"] is None:
            continue
        peaks = maps[:, split["critical_filter"]].max(axis=(1, 2))
        assert split["activation"] == pytest.approx(peaks[mine], rel=1e-4)
        top = images[np.argsort(-peaks, kind="stable")[: len(split["top_images"])]]
        assert split["top_images"] == top.tolist()


def test_classes_without_names_are_the_folders_in_order(world: Path, done: Path) -> None:
    image = world / "kinds" / "ant" / "02.png"
    answer = cnnlens("explain", "-i", image, "-w", done)
    assert answer.code == 0, answer.err
    assert "alphabetical order" in answer.err
    found = explained(done, "02.png")
    assert found["category"] == sorted(["ant", "bee", "cat"])[found["class"]]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--class", "cot"], 2, "cat"),
        (["-i", "none.png"], 2, "none.png"),
        (["-l", "conv7"], 2, "conv7"),
    ],
)
def test_explain_names_what_does_not_exist(
    world: Path, done: Path, words: list[str], code: int, says: str
) -> None:
    image = world / "kinds" / "ant" / "00.png"
    given = words if "-i" in words else ["-i", image, *words]
    answer = cnnlens("explain", *given, "-w", done, "--no-page")
    assert answer.code == code
    assert says in answer.err
    assert cnnlens("explain", "-w", done).code == 2


def test_a_class_that_no_category_is_called_after_asks_for_one(world: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "two", ["left", "right"])  # the network has three classes
    image = data / "left" / "00.png"
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-d", data, "-w", tmp_path / "w"]
    answer = cnnlens("explain", *model, "-i", image)
    assert answer.code == 1
    assert "--class" in answer.err
    assert not (tmp_path / "w" / "explain").exists()


def test_a_damaged_image_is_named_and_the_others_are_explained(world: Path, done: Path) -> None:
    bad = world / "bad.png"
    bad.write_bytes(b"no image")
    good = world / "kinds" / "ant" / "05.png"
    answer = cnnlens("explain", "-i", bad, "-i", good, "-w", done, "--class", "ant")
    assert answer.code == 0
    assert "bad.png" in answer.err
    assert cnnlens("explain", "-i", bad, "-w", done, "--class", "ant").code == 1


# ---- outliers


def test_strangers_and_noise_are_taken_for_what_the_network_says(
    world: Path, done: Path, tmp_path: Path
) -> None:
    strange = write_classes(tmp_path / "strange", ["u", "v"], seed=9)
    words = ["outliers", "-d", strange, "-w", done, "--noise", 10, "--json"]
    answer = cnnlens(*words)
    assert answer.code == 0, answer.err
    found = answer.json
    assert [s["source"] for s in found["sources"][:2]] == ["u", "v"]
    (path,) = (done / "activations" / "strange").glob("*.h5")
    with Store(path) as store:
        said = store.logits.argmax(1)
        mine = np.array(store.categories) == "u"
    shares = {t["class"]: t["share"] for t in found["sources"][0]["taken_for"]}
    assert shares == {int(c): pytest.approx((said[mine] == c).mean()) for c in set(said[mine])}
    assert found["noise"]["bias"]["rank"] in (1, 2, 3)
    assert found["regions"]["images"] == 18
    assert 0 <= found["regions"]["clusters"]["purity"] <= 1
    page = (done / "report.html").read_text()
    section = page[page.index('id="outliers"') :].split("</section>")[0]
    assert section.count('class="heat wrong"') == 3 * len(found["sources"])
    assert section.count(": taken for") == 6 and "predictions.png" not in section  # three of each
    again = cnnlens("cluster", "-w", done, "--only", "categories", "--bootstrap", 20, "--json")
    assert again.json["categories"]["categories"] == 3  # strangers are not the default data


def test_strangers_called_after_a_class_are_named_also_on_the_page(
    done: Path, tmp_path: Path
) -> None:
    space = tmp_path / "ws"
    shutil.copytree(done, space)
    strange = write_classes(tmp_path / "strange", ["ant", "v"], seed=9)
    answer = cnnlens("outliers", "-d", strange, "-w", space, "--noise", 5)
    assert answer.code == 0, answer.err
    said = "ant: folders of strange that are called after classes of the network"
    assert said in answer.err and "v: " not in answer.err
    assert said.replace("ant", "Ant") in (space / "report.html").read_text()


def test_strangers_of_an_earlier_run_are_not_taken_for_the_networks_own(
    world: Path, tmp_path: Path
) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-w", tmp_path / "ws", "--noise", 0, "--json"]
    first, second = (write_classes(tmp_path / n, ["u", "v", "w"], seed=9) for n in ("one", "two"))
    assert cnnlens("outliers", *model, "-d", first).code == 0
    answer = cnnlens("outliers", *model, "-d", second)
    assert answer.code == 0, answer.err
    assert answer.json["regions"] is None and "no other class folders" in answer.err
    # named by another command, they are its own from then on
    assert cnnlens("extract", *model[:-3], "-d", first, "-q").code == 0
    assert cnnlens("outliers", *model, "-d", second).json["regions"]["data"] == "one"


def test_without_class_folders_regions_are_left_out_and_said_to_be(
    world: Path, tmp_path: Path
) -> None:
    model = [f"{world / 'nets.py'}:rgb", *SIZE, "-w", tmp_path]
    answer = cnnlens("outliers", *model, "--noise", 5, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["regions"] is None
    assert "left out" in answer.err
    assert cnnlens("outliers", *model, "--noise", 0).code == 2
