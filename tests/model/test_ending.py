"""What a network ends with, and its scores before that: held against the network without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens.model.ending import before_link, ending, link_mark, link_of, run_before_link
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from tests.model.nets import filled

HALF = Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)


class Ends(nn.Module):
    """A classifier with something behind its scores."""

    def __init__(self, end: Callable[[Tensor], Tensor], outputs: int = 3) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.fc(self.conv(x).relu().mean((2, 3))))


def model_of(end: Callable[[Tensor], Tensor], outputs: int = 3) -> Model:
    return Model(filled(Ends(end, outputs)).eval(), "net", "net", HALF, None, "0")


@pytest.mark.parametrize(
    ("end", "link"),
    [
        (lambda s: s, ""),
        (nn.Softmax(1), "softmax"),
        (nn.LogSoftmax(1), "log_softmax"),
        (lambda s: F.softmax(s, dim=-1)[:, :, None].squeeze(2), "softmax"),
        (lambda s: torch.ops.aten.slice.Tensor(s.softmax(1), 0, 0, 2**63 - 1), "softmax"),  # s[:]
        (lambda s: torch.ops.aten.slice.Tensor(s.softmax(1), 1, 0, 2), ""),
        (torch.sigmoid, "sigmoid"),
        (lambda s: s.sigmoid().view(-1, 3), "sigmoid"),
        (lambda s: s.sigmoid().clamp(1e-6, 1 - 1e-6), "sigmoid"),
        (lambda s: s.sigmoid() * 2, ""),  # scores of its own
        (lambda s: s.clamp(0, 1), ""),
    ],
)
def test_it_is_read_off_the_networks_operations(end: Any, link: str) -> None:
    assert ending(model_of(end)).link == link


def test_scores_between_0_and_1_are_not_taken_for_probabilities() -> None:
    between = np.full((2, 3), 0.4, np.float32)
    assert link_of(model_of(lambda s: s), between) == ""
    assert link_of(model_of(torch.sigmoid), between) == "sigmoid"
    assert link_of(model_of(torch.sigmoid), between - 1) == ""  # these are not its outputs


@pytest.mark.parametrize("outputs", [1, 3])
def test_scores_before_a_sigmoid_are_those_of_the_network_without_it(outputs: int) -> None:
    x = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        want = model_of(lambda s: s, outputs).net(x).numpy()
        given = model_of(torch.sigmoid, outputs).net(x).numpy()
    np.testing.assert_allclose(before_link(given, "sigmoid"), want, rtol=1e-4, atol=1e-5)
    assert before_link(want, "") is want
    many = np.tile(given, (1500, 1))  # more than are brought back at once
    np.testing.assert_array_equal(before_link(many, "sigmoid")[-6:], before_link(given, "sigmoid"))


def test_certain_probabilities_have_finite_scores_in_their_order() -> None:
    sure = np.array([[0, 1e-30, 1e-8, 0.5, 1 - 2.0**-23, 1]], np.float32)
    scores = before_link(sure, "sigmoid")[0]
    assert np.isfinite(scores).all() and (np.diff(scores) > 0).all() and scores[3] == 0


@pytest.mark.parametrize(
    ("end", "link"),
    [
        (nn.Softmax(1), "softmax"),
        (nn.Sigmoid(), "sigmoid"),
        (lambda s: s.softmax(dim=-1)[:, :, None].squeeze(2), "softmax"),
        (lambda s: torch.sigmoid(input=s), "sigmoid"),
        (torch.special.expit, "sigmoid"),  # by another name
        (nn.LogSoftmax(1), "log_softmax"),
        (lambda s: s, ""),
    ],
)
def test_scores_that_are_learned_by_have_the_gradients_of_the_network_without(
    end: Any, link: str
) -> None:
    x, gradients = torch.randn(5, 3, 8, 8), []
    ends, plain = model_of(end).net, model_of(lambda s: s).net
    for one, its in ((ends, link), (plain, "")):
        one.fc.weight.data *= 3
        loss = F.cross_entropy(run_before_link(one, x, its), torch.tensor([0, 2, 1, 2, 0]))
        gradients.append(torch.autograd.grad(loss, [*one.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "end",
    [torch.special.expit, torch.sigmoid_, lambda s: s.t().contiguous().sigmoid().t(), nn.Sigmoid()],
)
def test_what_a_gate_is_given_is_not_taken_for_scores(end: Any) -> None:
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Sigmoid(), nn.Linear(4, 4)))
    x = torch.randn(4, 12)
    wanted = net(x).detach()
    found = run_before_link(nn.Sequential(net, Called(end)), x, "sigmoid")
    assert torch.allclose(found, wanted, atol=1e-4)
    assert torch.equal(found.argmax(1), wanted.argmax(1))


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(("end", "link"), [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_what_is_certain_and_wrong_is_still_learned_from(end: nn.Module, link: str) -> None:
    scores = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    given = run_before_link(end, scores, link)
    (found,) = torch.autograd.grad(F.cross_entropy(given, torch.tensor([2])), scores)
    assert found.tolist() == [[1.0, 0.0, -1.0]]


def test_a_key_names_what_its_numbers_depend_on() -> None:
    ends = (lambda s: s, nn.Softmax(1), torch.sigmoid)
    assert [link_mark(model_of(end), "sigmoid") for end in ends] == [{}, {}, {"link": "sigmoid"}]
    assert link_mark(model_of(nn.Softmax(1)), "sigmoid", "softmax") == {"link": "softmax"}
    maps = model_of(lambda s: s[:, :, None, None].expand(-1, -1, 2, 2))
    assert link_mark(maps, "sigmoid") == {}  # no class scores


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_before_it_is_before_that_of_the_named_output_whichever_comes_last(link):
    class Two(nn.Module):
        def forward(self, x):
            one = getattr(torch, link)(x, *[1] * (link == "softmax"))
            return {"one": one, "other": getattr(torch, link)(x + 1, *[1] * (link == "softmax"))}

    x = torch.tensor([[200.0, 0.0, -200.0]])  # probabilities of 0 and 1, which say no score
    assert torch.equal(run_before_link(Two(), x, link, "one"), x)
    assert torch.equal(run_before_link(Two(), x, link, "other"), x + 1)
