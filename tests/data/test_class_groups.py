from __future__ import annotations

import json

import pytest

from cnnlens.data.class_groups import branches, read_class_groups
from cnnlens.errors import CnnlensError

CLASSES = ["cat", "dog", "car"]


@pytest.mark.parametrize(
    "text", ['{"animal": ["cat", "dog"]}', "# mine\n\nanimal: cat, dog\n", "\ufeffanimal:cat,dog,"]
)
def test_groups_are_read_from_json_and_from_lines(tmp_path, text):
    file = tmp_path / "groups"
    file.write_text(text, encoding="utf-8")
    assert read_class_groups(file, CLASSES) == {"animal": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("animal: cat, dgo", "has no class 'dgo'"),
        ("cat: dog", "is called like a class"),
        ("animal", "holds no groups"),
        ("animal:", "holds no groups"),
        ("", "holds no groups"),
        ("{", "is not JSON"),
        ('{"animal": "cat"}', "holds no groups"),
        ('{"animal": [1]}', "holds no groups"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "groups"
    file.write_text(text)
    with pytest.raises(CnnlensError, match=said) as error:
        read_class_groups(file, CLASSES)
    assert error.value.hint and "\n" not in error.value.args[0]


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(CnnlensError, match="No such file"):
        read_class_groups(tmp_path / "none", CLASSES)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CnnlensError, match="not text"):
        read_class_groups(tmp_path / "bytes", CLASSES)


def test_branches_of_a_tree_are_named_by_their_classes():
    def node(*children):
        return {"distance": 1, "children": list(children)}

    a, b, c, d, e, f = ({"name": name} for name in "abcdef")
    tree = node(node(a, b), node(c, node(d, node(e, f))))
    found = branches(json.loads(json.dumps(tree)))
    assert found == {
        "a/b": ["a", "b"], "c/d/e/… (4)": ["c", "d", "e", "f"], "d/e/f": ["d", "e", "f"],
        "e/f": ["e", "f"],
    }  # fmt: skip
