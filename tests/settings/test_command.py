"""What options say of themselves is what the documentation and the code say."""

from __future__ import annotations

import re
from pathlib import Path

from cnnlens.model.outputs import choose
from cnnlens.settings.command import CommandSettings
from cnnlens.settings.option import fields_of
from cnnlens.settings.run import ModelSettings

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"


def words(kind: type, name: str) -> str:
    (field,) = [one for one in fields_of(kind) if one.attribute == name]
    return f"{field.option.help} {field.option.shown}"


def test_model_names_every_form_that_the_page_of_networks_does() -> None:
    table = PAGE.read_text("utf-8").split("## What opens")[1].split("\n## ")[0]
    rows = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ")]
    forms = {form for row in rows for form in re.findall(r"(?<![\w-])\.[a-z]\w+|\w+(?=:)", row)}
    said = words(CommandSettings, "model")
    assert forms >= {".tar", ".th", "timm", "torchvision"} and "folder" in said
    assert all(form in said for form in forms - {".index", ".json", ".bin", "py", "module"}), forms


def test_head_says_which_output_is_chosen() -> None:
    said = words(ModelSettings, "head")
    assert "logits or out" in said and "a row of numbers per image" in said
    maps, row = (2, 3, 4, 4), (2, 5)
    assert choose({"a": maps, "b": row, "c": row}, 2, None) == "b"
    assert choose({"a": row, "logits": row}, 2, None) == "logits"
    assert choose({"a": row, "out": maps}, 2, None) == "out"
