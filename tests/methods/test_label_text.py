"""label --from text: what its results depend on, its files, what is said of words and vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_kinds
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.exam import Exam
from cnnlens.methods.label import Label
from cnnlens.methods.method import carry_out
from cnnlens.report.exam_files import read_exam
from cnnlens.report.exam_section import images_said, marks
from cnnlens.report.label_files import names, read_all_labels, read_labels
from cnnlens.study.workspace import Workspace

from .test_measurement import after, blank, method, save_net

ENCODER = """
import numpy as np

COLORS = ("red", "green", "blue")

def towers():
    def images(of):
        return np.array([np.asarray(one, float).mean(axis=(0, 1)) - SHIFT for one in of])

    def texts(of):
        return np.array([[word in text.split() for word in COLORS] for text in of], float) - 0.3

    return images, texts
"""


def text(world: Path, **values: Any) -> Label:
    given = {"from_": "text", "chance": 1, "data": world / "kinds"}
    if not {"vectors", "encoder"} & set(values):
        given |= {"encoder": f"{world}/towers.py:towers", "words": world / "words.txt"}
    return method(Label, world, **{**given, **values})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0)
    make_kinds(world / "kinds", 6, 24)
    (world / "towers.py").write_text(ENCODER.replace("SHIFT", "230"))
    (world / "words.txt").write_text("# colours\nred\ngreen\nblue\nred\n\npink red\n")
    paths = open_data(world / "kinds").paths
    vectors = np.random.default_rng(0).normal(size=(len(paths) + 4, 5))
    np.savez(
        world / "made.npz", images=vectors[:-4], words=vectors[-4:], paths=np.array(paths),
        names=np.array(list("abca")),
    )  # fmt: skip
    carry_out(text(world))
    return world


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(made, tmp_path / "world"))
    known = copy / "ws" / "workspace.json"
    known.write_text(known.read_text().replace(str(made), str(copy)))
    return copy


def todo(world: Path, **values: Any) -> list[str]:
    one = text(world, **values)
    one.resolve()
    return [layer.name for layer in one.todo]


def one_more_word(world: Path) -> None:
    (world / "words.txt").write_text("red\ngreen\nblue\npink red\nyellow red\n")


def retrained(world: Path) -> None:
    (world / "towers.py").write_text(ENCODER.replace("SHIFT", "235"))


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], Any]] = {
    "method": {"method": "soft-wpmi"},
    "template": {"template": ("a {}",)},
    "words": one_more_word,
    "encoder": retrained,
    "vectors": lambda world: {"vectors": world / "made.npz"},
    "seed": {"seed": 1},
    "picture": blank("kinds/red circle/*"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_results(world: Path, name: str) -> None:
    assert todo(world) == []
    assert todo(world, **after(CHANGES[name], world)) == ["conv2"]


READS = """
import json
from pathlib import Path
import numpy as np

def towers():
    table = json.loads(Path(__file__).with_name("table.json").read_text())
    return (
        lambda of: np.array([np.asarray(one, float).mean(axis=(0, 1)) - 230 for one in of]),
        lambda of: np.array([table[text] for text in of]),
    )
"""


def test_an_encoder_s_other_vectors_and_other_words_are_never_mixed_with_earlier_ones(
    world: Path,
) -> None:
    """Held against the same in a new workspace."""
    numbers = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1], "pink red": [1, 0, 1]}
    (world / "reads.py").write_text(READS.replace("[text]", ".get(text, [1, 1, 1])"))

    def labelled(space: str, table: dict[str, Any]) -> str:
        (world / "table.json").write_text(json.dumps(table))
        one = text(world, encoder=f"{world}/reads.py:towers", words=world / "words.txt")
        one.study.workspace = Workspace(world / space)
        carry_out(one)
        return (one.folder(one.layers[0]) / "units.csv").read_text()

    first = labelled("ws", numbers)
    turned = {**numbers, "green": [-1, 2, 0]}
    assert labelled("ws", turned) == labelled("new", turned) != first
    one_more_word(world)
    assert labelled("ws", turned) == labelled("newer", turned)


def test_vectors_of_a_file_are_what_counts(world: Path) -> None:
    carry_out(text(world, vectors=world / "made.npz"))
    with np.load(world / "made.npz") as file:
        arrays = dict(file)
    order = np.random.default_rng(1).permutation(len(arrays["paths"]))
    arrays |= {"images": 3 * arrays["images"][order], "paths": arrays["paths"][order]}
    np.savez(world / "moved.npz", **arrays)
    assert read_labels(world / "ws" / "label" / "conv2").summary["concepts"] == 3
    first = read_labels(world / "ws" / "label" / "conv2").table()
    carry_out(text(world, vectors=world / "moved.npz"))
    for one, other in zip(first, read_labels(world / "ws/label/conv2").table(), strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_an_encoder_s_vectors_saved_and_read_give_the_same(world: Path) -> None:
    blocks = {len(np.load(file)): np.load(file) for file in (world / "ws/vectors").rglob("*.npy")}
    paths, words = open_data(world / "kinds").paths, ["red", "green", "blue", "pink red"]
    saved = {"images": blocks[len(paths)], "words": blocks[4], "paths": paths, "names": words}
    np.savez(world / "saved.npz", **saved)
    before = read_labels(world / "ws" / "label" / "conv2").table()
    carry_out(text(world, vectors=world / "saved.npz"))
    assert read_labels(world / "ws" / "label" / "conv2").table() == before


def test_names_from_text_stand_beside_those_from_classes(world: Path) -> None:
    carry_out(method(Label, world, chance=0, data=world / "kinds"))
    classes, words = read_all_labels(world / "ws")
    assert (classes.source, words.source) == ("classes", "text")
    assert words.summary["concepts"] == 4 and words.summary["method"] == "linear"
    assert words.summary["vectors"] == "towers.py:towers"
    assert {one.rank for one in words.units if one.single_score} <= {1, 2, 3, 4}
    assert json.loads((world / "ws/label/conv2/summary.json").read_text())["from"] == "classes"
    section = names(world / "ws")
    assert section is not None and section.title == "Names from classes and text"
    assert section.note.told == {"origins": ["classes", "text"]}


def test_images_need_no_classes(world: Path) -> None:
    flat = world / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted((world / "kinds").rglob("*.png"))):
        shutil.copy(file, flat / f"{number:02}.png")
    carry_out(text(world, data=flat))
    assert read_labels(world / "ws/label/conv2").summary["images"] == 54
    carry_out(examined(world))
    assert read_exam(world / "ws/exam/conv2").of("text")


def examined(world: Path, **values: Any) -> Exam:
    return method(Exam, world, **{"data": None, "chance": 2, "resamples": 20, **values})


def test_names_from_words_are_examined_and_their_twin_is_named_by_words(world: Path) -> None:
    carry_out(examined(world, twin=True, planted=4))
    found = read_exam(world / "ws" / "exam" / "conv2")
    own = {one.unit: one for one in read_labels(world / "ws/label/conv2").units if one.label}
    assert {one.unit: one.label for one in found.units} == {u: o.label for u, o in own.items()}
    assert {one.told_by for one in found.units} == {"encoder"}  # words are colours, classes figures
    for one in found.units:
        assert one.correlation == pytest.approx(own[one.unit].score, abs=1e-5)
        tested = ("passes", "fails") if one.correlation else ("untested: nothing varies",)
        assert one.f1 is None and one.verdict in tested
    of = found.summary["methods"]["text"]
    assert of["told_by"] == {"encoder": len(own)} and len(of["planted"]) == 4
    assert of["twin"]["labels"] and of["twin"]["mean"] != of["mean"]
    assert f"{len(own)} labels are held against the encoder that chose them" in images_said(of)
    assert marks(world / "ws") is not None
    again = examined(world, twin=True, planted=4)
    again.resolve()
    assert not again.todo
    carry_out(text(world, vectors=world / "made.npz"))
    again = examined(world, twin=True, planted=4)
    again.resolve()
    assert again.todo  # they were chosen by other vectors
    carry_out(again)


def test_exam_says_what_it_lacks_to_examine_names_from_words(world: Path) -> None:
    with pytest.raises(UsageError, match="tells of none of the labels"):
        examined(world, data=make_kinds(world / "others", 6, 24, seed=3)).resolve()
    for file in (world / "ws" / "vectors").rglob("names.json"):
        file.write_text("{}")
    with pytest.raises(CnnlensError, match="are gone or damaged") as caught:
        examined(world).resolve()
    assert "label --from text" in (caught.value.hint or "")
    anew = text(world)
    anew.study.force = True
    carry_out(anew)
    examined(world).resolve()
    next((world / "ws" / "vectors").rglob("0.npy")).write_bytes(b"\x93NUMPY")
    with pytest.raises(CnnlensError, match="are gone or damaged"):
        examined(world).resolve()


def changed(world: Path, **arrays: Any) -> dict[str, Any]:
    with np.load(world / "made.npz") as file:
        saved = {**dict(file), **arrays}
    np.savez(world / "made.npz", **{key: of for key, of in saved.items() if of is not None})
    return {"vectors": world / "made.npz"}


def written(world: Path, name: str, said: str) -> dict[str, Any]:
    (world / name).write_text(said)
    return {}


FAILS = "def towers():\n    return lambda of: 1 / 0, lambda of: [[1.0]] * len(of)\n"
OTHER = "def towers():\n    return lambda of: [[1, 2]] * len(of), lambda of: [[1.0]] * len(of)\n"
ZERO = "def towers():\n    return lambda of: [[0.0]] * len(of), lambda of: [[1.0]] * len(of)\n"
SHORT = "def towers():\n    return lambda of: [[1.0]] * 3, lambda of: [[1.0]] * len(of)\n"
REFUSED: dict[str, tuple[Callable[[Path], Mapping[str, Any]], str]] = {
    "neither": (lambda w: {"encoder": None}, "--vectors and --encoder are both missing"),
    "no words": (lambda w: {"encoder": f"{w}/towers.py:towers"}, "compares images with words"),
    "classes": (lambda w: {"from_": "classes"}, "--words is for --from text"),
    "template": (lambda w: {"template": ("a",)}, r"--template 'a' has no \{\}"),
    "one word": (lambda w: written(w, "words.txt", "red\nred\n"), "holds 1 word"),
    "fails": (lambda w: written(w, "towers.py", FAILS), "failed on 5 images: ZeroDivisionError"),
    "lengths": (lambda w: written(w, "towers.py", OTHER), "gives 2 numbers of an image, 1 of a"),
    "zero": (lambda w: written(w, "towers.py", ZERO), "54 of 54 vectors have no direction"),
    "fewer": (lambda w: written(w, "towers.py", SHORT), r"made \(3, 1\) of 5 images"),
    "no pair": (lambda w: written(w, "towers.py", "towers = dict"), "returned a dict"),
    "key": (lambda w: changed(w, names=None), "lacks names"),
    "pickle": (lambda w: changed(w, names=np.array([{}] * 4, object)), "cannot be read"),
    "others": (lambda w: changed(w, paths=np.array(["x"] * 54)), "no vectors of 54 of 54 images"),
    "rows": (lambda w: changed(w, words=np.ones((3, 5))), "words is 3×5, and there are 4 names"),
    "length": (lambda w: changed(w, words=np.ones((4, 6))), "have 5 numbers, those of words 6"),
    "zeros": (lambda w: changed(w, words=np.zeros((4, 5))), "3 of 3 vectors have no direction"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_names_nothing_is_refused(world: Path, name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(CnnlensError, match=said) as caught:
        carry_out(text(world, **make(world)))
    assert caught.value.hint


def test_a_list_of_words_is_there_without_a_file(world: Path) -> None:
    one = text(world, encoder=f"{world}/towers.py:towers", words=Path("imagenet"))
    one.resolve()
    assert one.by_text is not None
    words = one.by_text.words
    assert len(words) == len(set(words)) > 990 and {"goldfish", "tiger", "volcano"} < set(words)
