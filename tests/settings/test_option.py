"""Settings that declare their options: checks, keywords and flags follow from one place."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch

import cnnlens.settings
from cnnlens.errors import UsageError
from cnnlens.settings.base import Settings
from cnnlens.settings.option import fields_of, option
from cnnlens.settings.run import ModelSettings, RunSettings


@dataclass(frozen=True)
class Sample(Settings):
    """For the tests."""

    presets: ClassVar = {"tall": {"top": 7}}
    top: int = option(3, "How many.", least=1, hint="3 is usual")
    share: float = option(0.5, "Which share.", above=0, below=1)
    method: str = option("plain", "How.", choices=("plain", "guided", "gradient"))
    category: str = option("mean", "By what.", name="category-by")
    switch: bool = option(False, "Whether.")
    several: tuple[str, ...] = option((), "Names.", name="class")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": 0}, "--top 0 is not at least 1"),
        ({"share": 0.0}, "--share 0.0 is not between 0 and 1"),
        ({"share": 1.0}, "--share 1.0 is not between 0 and 1"),
        ({"share": float("nan")}, "--share nan is not"),
        ({"method": "guidet"}, "--method guidet is not known"),
        ({"share": 10**400}, "--share 1000.* is not between 0 and 1"),
        ({"share": Fraction(10**400, 3)}, "--share Fraction.* is no number"),
        ({"share": True}, "--share True is no number"),
        ({"method": ["plain"]}, r"--method \['plain'\] is no text"),
        ({"category": {"a": 1}}, "--category-by {'a': 1} is no text"),
        ({"category": ("a",)}, r"--category-by \('a',\) is no text"),
        ({"switch": "no"}, "--switch 'no' is neither True nor False"),
        ({"switch": 2}, "--switch 2 is neither True nor False"),
    ],
)
def test_what_does_not_fit_is_named_by_its_flag(given, message):
    with pytest.raises(UsageError, match=message):
        Sample(**given)


def test_one_word_is_not_taken_for_its_letters():
    assert Sample(several="ab") == Sample(several=("ab",)) == Sample(several=["ab"])
    assert Sample(several=3).several == ("3",) and Sample(top=10**400).top == 10**400


NUMBERS = [np.int64, np.uint8, np.array, torch.tensor]


@pytest.mark.parametrize("whole", NUMBERS)
@pytest.mark.parametrize("part", [np.float16, np.float64, np.longdouble, Fraction, torch.tensor])
def test_numbers_of_other_libraries_are_taken_as_pythons_own(whole, part):
    found = Sample(top=whole(4), share=part(0.25), switch=np.bool_(True), several=[whole(1)])
    assert found == Sample(top=4, share=0.25, switch=True, several=(1,))
    assert json.loads(json.dumps(found.as_dict()))["top"] == 4
    assert (type(found.top), type(found.share), type(found.switch)) == (int, float, bool)


@pytest.mark.parametrize("whole", NUMBERS)
def test_numbers_of_other_libraries_are_held_against_the_bounds(whole):
    with pytest.raises(UsageError, match="--top 0 is not at least 1"):
        Sample(top=whole(0))
    with pytest.raises(UsageError, match=r"--top 2\.0 is no whole number"):
        Sample(top=np.float32(2))


def test_the_way_out_is_said():
    with pytest.raises(UsageError) as error:
        Sample(method="guidet")
    assert error.value.hint.startswith("did you mean guided")
    with pytest.raises(UsageError) as error:
        Sample(top=0)
    assert error.value.hint == "3 is usual"


def test_presets_give_way_to_what_is_said():
    assert Sample.of("tall").top == 7
    assert Sample.of("tall", top=2, share=None) == Sample(top=2)
    with pytest.raises(UsageError, match="no preset 'short'"):
        Sample.of("short")


def test_faces_read_names_types_and_metavars():
    fields = {f.attribute: f for f in fields_of(Sample)}
    assert fields["category"].flag == "--category-by"
    assert fields["category"].keyword == "category_by"
    assert fields["several"].keyword == "class_"  # a word of Python's
    assert fields["several"].repeats
    assert not fields["top"].repeats
    assert fields["method"].metavar == "plain|guided|gradient"
    assert fields["top"].metavar == "N"


@pytest.mark.parametrize(
    "given", [{"image_size": "big"}, {"mean": "a,b"}, {"std": "0.5,0"}, {"mean": "nan"}]
)
def test_a_model_is_opened_with_numbers(given):
    with pytest.raises(UsageError):
        ModelSettings(**given).as_arguments()


def test_every_setting_says_what_it_is():
    """A field without words would be an option without help."""
    lacking = []
    for module in pkgutil.iter_modules(cnnlens.settings.__path__):
        found = importlib.import_module(f"cnnlens.settings.{module.name}")
        for kind in vars(found).values():
            if isinstance(kind, type) and issubclass(kind, Settings):
                lacking += [f.flag for f in fields_of(kind) if not f.option.help.endswith(".")]
    assert lacking == []


def test_settings_are_changed_by_what_is_given():
    run = RunSettings(batch_size=4)
    assert run.changed({"workers": 2, "seed": None, "top": 3}) == RunSettings(
        batch_size=4, workers=2
    )


def test_values_of_python_are_written_as_typed():
    opening = ModelSettings.of_values(mean=(0.5, 0.25), image_size=(24, 32), allow_pickle=True)
    assert (opening.mean, opening.image_size) == ("0.5,0.25", "24x32")
    assert ModelSettings.of_values(mean=(0, 0, 0), std=[1, 1, 1]).as_arguments()["mean"] == (0,) * 3
    arrays = {"mean": np.array([0.5, 0.25]), "std": torch.tensor([2.0]), "image_size": np.int64(32)}
    found = ModelSettings.of_values(**arrays, allow_pickle=np.bool_(False))
    assert found == ModelSettings(mean="0.5,0.25", std="2.0", image_size="32")
    assert ModelSettings.of_values(mean=0.5).mean == "0.5"
    found = opening.as_arguments({"std": [1.0, 2.0], "mean": [9.0], "spec": "a"})
    assert (found["mean"], found["std"], found["allow_pickle"]) == ((0.5, 0.25), (1.0, 2.0), True)
