"""Classes of data held against a network's outputs: by name, by synset, by number, by order."""

from __future__ import annotations

from importlib import resources

import pytest
from torchvision.models import ResNet18_Weights

from cnnlens.errors import CnnlensError
from cnnlens.model.class_names import imagenet_synsets
from cnnlens.model.matching import (
    in_order,
    named_outputs,
    readings,
    said_outputs,
    target_outputs,
    usual_outputs,
)

TWELVE = [str(n) for n in range(1, 13)]


def test_categories_are_outputs_by_name():
    assert target_outputs(["dog", "ant"], ["cat", "dog", "ant"], 3).tolist() == [1, 2]


def test_categories_are_outputs_by_order_where_no_name_fits():
    assert target_outputs(["b", "a", "b"], None, 2).tolist() == [1, 0, 1]
    assert target_outputs(["b", "a"], ["0", "1"], 2).tolist() == [1, 0]


def test_one_output_says_yes_to_the_category_it_is_named_after():
    assert target_outputs(["bird", "none", "bird"], ["bird"], 1).tolist() == [1, 0, 1]
    assert target_outputs(["a", "b"], None, 1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["golden_retriever", "Golden Retriever", "golden retriever, dog"])
def test_one_output_s_name_is_compared_as_all_are(name: str):
    """Else the output, right on every image, was said to be wrong on all of them."""
    assert target_outputs(["golden retriever", "zebra"], [name], 1).tolist() == [1, 0]
    assert target_outputs(["Zebra", "zebra"], ["zebra"], 1).tolist() == [0, 1]
    assert target_outputs(["Cat", "cat"], ["CAT"], 1).tolist() == [0, 1]  # which, nothing says


def test_categories_that_do_not_fit_are_named():
    with pytest.raises(CnnlensError, match=r"2 classes \(b, a\) do not fit the model's 3 outputs"):
        target_outputs(["a", "b"], ["a", "c", "d"], 3)


def test_names_are_compared_without_case_and_underscores_and_by_each_of_several():
    classes = ["tench, Tinca tinca", "great white shark", "tabby"]
    found = named_outputs(["Great_White-Shark", "tinca TINCA", "dog"], classes)
    assert found == {"Great_White-Shark": 1, "tinca TINCA": 0}
    assert named_outputs(["cafe\u0301"], ["tea", "caf\u00e9"]) == {"cafe\u0301": 1}


def test_a_number_before_a_name_is_left_out_where_no_name_fits_with_it():
    folders = ["001.Black_footed_Albatross", "002.Ani"]
    assert named_outputs(["Ani", "black footed albatross"], folders) == {
        "Ani": 1, "black footed albatross": 0,
    }  # fmt: skip
    assert named_outputs(["002.Ani"], ["ani", "crow"]) == {"002.Ani": 0}
    assert named_outputs(["4-door", "2"], ["2-door", "3-door"]) == {}
    assert named_outputs(["door"], ["2-door", "3-door"]) == {}


def test_synsets_are_imagenets_classes():
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    folders = ["n01440764", "n02124075", "n04540053_volleyball", "n03126707"]
    found = named_outputs(folders, names)
    assert [names[n] for n in found.values()] == ["tench", "Egyptian cat", "volleyball", "crane"]
    assert found["n03126707"] == 517 and names[134] == "crane bird"
    assert named_outputs(["n01440764"], ["bird", "n01440764"]) == {"n01440764": 1}
    assert named_outputs(["n01440764"], ["bird", "tench"]) == {"n01440764": 1}


def test_all_synsets_are_found_though_some_share_a_name():
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    synsets = imagenet_synsets()
    (way,) = readings(list(synsets), names, 1000)
    assert way.by == "names" and way.outputs == synsets
    assert named_outputs(["n02113186-Cardigan", "Cardigan"], names) == {
        "n02113186-Cardigan": 264, "Cardigan": 264,
    }  # fmt: skip
    assert named_outputs(["n02963159", "n02113186"], ["Cardigan", "cardigan"]) == {
        "n02963159": 1, "n02113186": 0,
    }  # fmt: skip


def test_all_synsets_are_found_among_the_long_names_of_wordnet_and_behind_the_background():
    text = resources.files("timm.data").joinpath("_info/imagenet_synset_to_lemma.txt").read_text()
    lemmas = dict(line.split("\t", 1) for line in text.splitlines())
    synsets = imagenet_synsets()
    names = [lemmas[synset] for synset in synsets]
    assert named_outputs(list(synsets), names) == synsets
    behind = named_outputs(list(synsets), ["background", *names])
    assert behind == {synset: number + 1 for synset, number in synsets.items()}


def test_a_name_that_two_outputs_bear_is_neither():
    assert named_outputs(["crane", "cat"], ["crane", "crane", "cat"]) == {"cat": 2}
    assert readings(["crane", "cat"], ["crane", "crane", "cat"], 3) == []


def test_folders_that_are_numbers_are_outputs_of_that_number():
    (way,) = readings(["7", "0"], None, 8)
    assert way.outputs == {"7": 7, "0": 0}
    one, other = readings(["7", "2"], None, 10)
    assert (one.by, other.by) == ("number", "number less one") and other.outputs["7"] == 6
    assert usual_outputs(["7", "2"], None, 10) == {"7": 7, "2": 2}


def test_what_names_say_is_apart_from_what_an_order_says():
    assert usual_outputs(["b", "a"], None, 2) == {"a": 0, "b": 1}
    assert usual_outputs(["b", "a"], ["c", "d"], 2) == {}
    assert said_outputs(["b", "a"], None, 2) == said_outputs(["7", "2"], None, 10) == {}
    assert said_outputs(["x", "red deer"], ["elk", "deer, Red_Deer"], 2) == {"red deer": 1}


def test_orders_are_alphabetical_first_and_natural_where_that_differs():
    assert [way.by for way in readings(["a", "b"], None, 2)] == ["alphabetical"]
    first, second, *_ = readings(TWELVE, None, 12)
    assert (first.outputs["10"], second.outputs["10"]) == (1, 9)
    assert in_order(["class10", "class9", "Class1"], "natural") == ["Class1", "class9", "class10"]
    assert readings(["a", "b"], ["a", "c", "d"], 3) == []  # b is no class of the network
