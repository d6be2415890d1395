"""What Python gives that does not fit: refused when an investigation is made, before it opens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cnnlens
from cnnlens.errors import UsageError
from cnnlens.model.model import Model
from tests.study.test_investigation import PREPROCESS, small_net


def opened_net() -> Model:
    return cnnlens.wrap_module(small_net(), PREPROCESS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "cuda:x"}, "no device 'cuda:x'"),
        ({"device": torch.device("meta")}, "no device 'meta'"),
        ({"image_size": "wide"}, "--image-size wide is not a size"),
        ({"mean": "grey"}, "--mean grey is not a list of numbers"),
        ({"std": object()}, "--std <object object.* is no text"),
        ({"allow_pickle": "no"}, "--allow-pickle 'no' is neither True nor False"),
        ({"classes": "missing.txt"}, "missing.txt is no file"),
        ({"workspace": 3}, "workspace=3 is no path"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_what_does_not_fit_is_refused_before_anything_is_opened(named, wrong, said):
    with pytest.raises(UsageError, match=said):
        cnnlens.Investigation("zoo:shapes_net" if named else small_net(), **wrong)


@pytest.mark.parametrize(
    ("model", "unused", "said"),
    [
        ("zoo:shapes_net", {"preprocess": PREPROCESS}, "preprocess= goes with a network in memory"),
        (None, {"preprocess": PREPROCESS}, "preprocess= goes with a network in memory"),
        (small_net, {"arch": "resnet18"}, "arch= goes with a file of weights"),
        (small_net, {"weights": "ema"}, "weights= goes with a file of weights"),
        (opened_net, {"image_size": 8}, "image_size= goes with a network that was not opened"),
        (opened_net, {"preprocess": PREPROCESS}, "a Model has its own"),
        (small_net, {"preprocess": 3}, "preprocess is a int"),
        (small_net, {"preprocess": {"input_size": 3, "mean": 1, "std": 1}}, "that cannot be read"),
        (small_net, {"mean": (0.5,) * 4}, "--mean has 4 numbers"),
        (small_net, {"classes": list("abcd")}, "4 names of classes for 3 outputs"),
        (opened_net, {"classes": list("abcd")}, "4 names of classes for 3 outputs"),
        (lambda: 3, {}, "an nn.Module is needed, not a int"),
    ],
)
def test_what_would_go_unused_is_refused(model, unused, said):
    with pytest.raises(UsageError, match=said):
        cnnlens.Investigation(model() if callable(model) else model, **unused)


def test_of_two_names_one_output_has_the_second(capfd):
    net = cnnlens.wrap_module(nn.Sequential(small_net(), nn.Linear(3, 1)), PREPROCESS)
    named = cnnlens.Investigation(net, classes=["cat", "dog"])
    assert named.model.classes == ["dog"] and net.classes is None
    assert not net.assumed and "it has one output: of cat and dog" in capfd.readouterr().err


def test_a_device_may_be_torchs_or_left_to_be_found():
    for device in (torch.device("cpu"), None):
        found = cnnlens.Investigation(small_net(), preprocess=PREPROCESS, device=device)
        assert found.model.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"range": {"low": 0}}, "--range {'low': 0} is no text"),
        ({"method": ["gradcam"]}, r"--method \['gradcam'\] is no text"),
        ({"raw": "no"}, "--raw 'no' is neither True nor False"),
    ],
)
def test_values_of_another_kind_are_refused(keywords, said):
    lens = cnnlens.Investigation(small_net(), preprocess=PREPROCESS, quiet=True)
    with pytest.raises(UsageError, match=said):
        lens.cam(image=torch.rand(3, 16, 16), layer="conv1", **keywords)
