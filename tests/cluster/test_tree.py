from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnlens.cluster.tree import clades, nested, newick, quoted, roots, walk
from cnnlens.errors import CnnlensError
from cnnlens.report.trees import read_tree, room_for, write_tree

PAIRS = np.array([[0, 2], [1, 3]])  # (b, (a, c))


def test_nests_children_under_what_each_node_says() -> None:
    tree = nested(PAIRS, [{"name": n} for n in "abc"], [{"distance": 0.1}, {"distance": 0.3}])
    inner = {"distance": 0.1, "children": [{"name": "a"}, {"name": "c"}]}
    assert tree == {"distance": 0.3, "children": [{"name": "b"}, inner]}


def test_several_subtrees_hang_under_a_root_that_says_nothing() -> None:
    tree = nested(PAIRS[:1], [{"name": n} for n in "abc"], [{"distance": 0.1}])
    assert tree["distance"] is None
    assert [child.get("name") for child in tree["children"]] == ["b", None]
    assert roots(PAIRS[:1], 3) == [1, 3]


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


def test_a_chain_of_thousands_is_written_and_read(tmp_path: Path) -> None:
    count = 3000
    pairs = np.array([[0, 1], *([count + i, i + 2] for i in range(count - 2))])
    leaves = [{"name": str(i)} for i in range(count)]
    write_tree(tmp_path / "t.json", pairs, leaves, [{"distance": 0.0}] * (count - 1))
    tree = read_tree(tmp_path / "t.json")
    assert sum("name" in node for node in walk(tree)) == count
    assert (
        newick(pairs, [str(i) for i in range(count)], [0.0] * (count - 1)).count("(") == count - 1
    )


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"children": 3}', '{"children": []}'])
def test_a_damaged_tree_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "categories.json"
    path.write_text(text)
    with pytest.raises(CnnlensError, match=r"categories\.json is damaged"):
        read_tree(path)
    with pytest.raises(CnnlensError, match="does not exist"):
        read_tree(tmp_path / "none.json")


def test_room_ends_with_the_block() -> None:
    import sys

    before = sys.getrecursionlimit()
    with room_for(5000), pytest.raises(json.JSONDecodeError):
        json.loads("[" * 3000)
    assert sys.getrecursionlimit() == before
