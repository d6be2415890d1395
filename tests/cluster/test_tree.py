from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.cluster.tree import clades, flat, newick, quoted, roots, walk
from cnnlens.errors import CnnlensError
from cnnlens.report.contents import parse_nested
from cnnlens.report.nested_trees import read_tree, write_tree
from tests import warm

PAIRS = np.array([[0, 2], [1, 3]])  # (b, (a, c))


def written(folder: Path, pairs: np.ndarray, leaves: list[Any], nodes: list[Any]) -> Any:
    write_tree(folder / "t.json", pairs, leaves, nodes)
    return json.loads((folder / "t.json").read_text(encoding="utf-8"))


def chain(count: int) -> np.ndarray:
    return np.array([[0, 1], *([count + i, i + 2] for i in range(count - 2))])


def test_nests_children_under_what_each_node_says(tmp_path: Path) -> None:
    leaves, nodes = [{"name": n} for n in "abc"], [{"distance": 0.1}, {"distance": 0.3}]
    inner = {"distance": 0.1, "children": [{"name": "a"}, {"name": "c"}]}
    tree = written(tmp_path, PAIRS, leaves, nodes)
    assert tree == {"distance": 0.3, "children": [{"name": "b"}, inner]}
    assert list(tree) == ["distance", "children"]
    assert read_tree(tmp_path / "t.json") == tree
    assert written(tmp_path, PAIRS[:0], leaves[:1], []) == {"name": "a"}


def test_several_subtrees_hang_under_a_root_that_says_nothing(tmp_path: Path) -> None:
    leaves, nodes = [{"name": n} for n in "abc"], [{"distance": 0.1, "images": 2}]
    tree = written(tmp_path, PAIRS[:1], leaves, nodes)
    assert (tree["distance"], tree["images"]) == (None, None)
    assert [child.get("name") for child in tree["children"]] == ["b", None]
    assert roots(PAIRS[:1], 3) == [1, 3]
    assert newick(PAIRS[:1], list("abc"), [0.1]) == "(b,(a:0.05,c:0.05));\n"


def test_any_name_is_written_and_read_back(tmp_path: Path) -> None:
    names = ['a "quoted" {brace}', "back\\slash}", "猫 NaN", "no Unicode \udcff {"]
    leaves, nodes = [{"name": n} for n in names], [{"distance": d / 7} for d in range(3)]
    tree = written(tmp_path, chain(4), leaves, nodes)
    assert read_tree(tmp_path / "t.json") == tree
    assert sorted(n["name"] for n in walk(tree) if "name" in n) == sorted(names)


def test_newick_branches_are_half_the_difference_of_the_merges() -> None:
    text = newick(PAIRS, ["a", "b", "c"], [0.1, 0.3], ["90", "100"])
    assert text == "(b:0.15,(a:0.05,c:0.05)90:0.09999999999999999)100;\n"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("cat", "cat"),
        ("king's (old)", "'king''s (old)'"),
        ("a/b;c:d,e", "'a/b;c:d,e'"),
        ("Katze – 猫", "'Katze – 猫'"),
        ("two words", "'two words'"),
    ],
)
def test_newick_quotes_what_would_be_read_otherwise(name: str, written: str) -> None:
    assert quoted(name) == written


def test_newick_reads_back_in_another_library(tmp_path: Path) -> None:
    phylo = pytest.importorskip("Bio.Phylo")
    path = tmp_path / "tree.nwk"
    path.write_text(newick(PAIRS, ["a b", "b'", "c;"], [0.1, 0.3]), encoding="utf-8")
    assert {leaf.name for leaf in phylo.read(path, "newick").get_terminals()} == {"a b", "b'", "c;"}


def test_clades_are_the_sets_of_leaves() -> None:
    assert clades(PAIRS, 3) == [0b101, 0b111]


def test_a_chain_of_twenty_thousand_is_written_small_and_read_back(tmp_path: Path) -> None:
    count = 20_000
    leaves = [{"name": str(i)} for i in range(count)]
    nodes = [{"distance": i / 7} for i in range(count - 1)]
    write_tree(tmp_path / "t.json", chain(count), leaves, nodes)
    assert (tmp_path / "t.json").stat().st_size < 100 * count  # an indent would be 2 × depth more
    tree = read_tree(tmp_path / "t.json")
    inner, names = [], []
    for node in walk(tree):
        (inner if "children" in node else names).append(node)
    assert [node["distance"] for node in inner] == [n["distance"] for n in reversed(nodes)]
    assert {node["name"] for node in names} == {leaf["name"] for leaf in leaves}
    text = newick(chain(count), [str(i) for i in range(count)], [0.0] * (count - 1))
    assert text.count("(") == text.count(")") == count - 1


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"children": 3}', '{"children": []}'])
def test_a_damaged_tree_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "categories.json"
    path.write_text(text)
    with pytest.raises(CnnlensError, match=r"categories\.json is damaged"):
        read_tree(path)
    with pytest.raises(CnnlensError, match="does not exist"):
        read_tree(tmp_path / "none.json")


def reads(path: Path) -> None:
    try:
        read_tree(path)
    except CnnlensError as error:
        print(error.message)


@pytest.mark.parametrize("unit", ["{}", "[]", '"3"', "1.5"])
def test_a_filter_of_a_tree_is_a_number_or_not_known(tmp_path, unit):
    text = '{"distance": 1, "critical_filter": %s, "filters": [], "children": []}'
    for path, word in ((tmp_path / "whole.json", "4"), (tmp_path / "known.json", "null")):
        path.write_text(text % word)
        read_tree(path)
    path = tmp_path / "t.json"
    path.write_text(text % unit)
    with pytest.raises(CnnlensError, match=r"t\.json is damaged: a filter is called"):
        read_tree(path)


@pytest.mark.parametrize("opening", ["[", '{"distance": 0, "children": [', '{"distance": [0, '])
def test_two_hundred_thousand_nested_brackets_are_damage_and_no_crash(
    tmp_path: Path, opening: str
) -> None:
    path = tmp_path / "categories.json"
    path.write_text(opening * 200_000)
    done = warm.run(reads, path, env=os.environ)  # a segmentation fault would end the tests
    assert done.returncode == 0, done.returncode
    assert "categories.json is damaged" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": 1', '{"a": 1}}', "}{", '{"a": NaN}', '{"a": Infinity}', '{"a": {}, "b": NaN}'),
        *('{"a": "}', '{"a": {} {}}', "{{}: 1}", '{"a": {"b": }}', "{} {}", "NaN", '{"a" {}}'),
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_nested(text)


@pytest.mark.parametrize("seed", range(20))
def test_parses_as_python_does(seed: int) -> None:
    rng = random.Random(seed)

    def drawn(depth: int) -> Any:
        kind = rng.randrange(8 if depth else 5)
        if kind < 5:
            return [None, rng.random(), -3, 'a "b" {\\', True][kind]
        if kind == 5:
            return [drawn(depth - 1) for _ in range(rng.randrange(4))]
        return {f"{{{i}": drawn(depth - 1) for i in range(rng.randrange(4))}

    document = drawn(7)
    for indent in (None, 2):
        assert parse_nested(json.dumps(document, indent=indent)) == document


def test_a_nested_tree_is_laid_flat_children_first() -> None:
    def leaf(row: int) -> dict[str, Any]:
        return {"image": f"{row}.png", "row": row}

    inner = {
        "distance": 0.1,
        "critical_filter": 4,
        "detects": "fur",
        "children": [leaf(2), leaf(0)],
    }
    root = {"distance": 0.3, "critical_filter": None, "children": [leaf(1), inner]}
    said = ("distance", "critical_filter")
    assert flat(root, said) == {
        "images": ["0.png", "1.png", "2.png"],
        "nodes": [[0.1, 4, "fur", [2, 0]], [0.3, None, None, [1, 3]]],
        "roots": [4],
    }
    several = {"distance": None, "critical_filter": None, "children": [inner, leaf(1)]}
    assert flat(several, said)["roots"] == [3, 1]
    assert len(flat(several, said)["nodes"]) == 1
