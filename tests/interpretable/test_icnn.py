import copy

import pytest
import torch
from torch import nn

from cnnlens.interpretable.icnn import Assignment, Icnn, filter_loss, mutual_information
from cnnlens.model.mask import Mask, positions, template
from cnnlens.settings.finetune import IcnnSettings
from tests.reference import icnn as reference


def maps(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_masks_as_the_formula_says(size, beta):
    x = maps(2, 3, *size)
    found = Mask(3, beta=beta).double()(x)
    for n in range(2):
        for c in range(3):
            expected = torch.tensor(reference.masked(x[n, c].tolist(), beta))
            assert torch.allclose(found[n, c].float(), expected, atol=1e-6)


def test_the_peak_is_kept_and_the_mask_is_constant_to_the_gradient():
    x = maps(1, 1, 5, 5).requires_grad_()
    y = Mask(1).double()(x)
    assert y.max() == x.max()
    y.sum().backward()
    rows, columns = positions(x.detach())
    m = template(rows, columns, (5, 5), torch.full((1,), 4.0, dtype=torch.float64), 0.0)
    assert torch.allclose(x.grad, m)


def test_centroids_are_centres_of_mass():
    x = torch.zeros(1, 1, 7, 9)
    x[0, 0, 2, 3] = x[0, 0, 4, 7] = 1.0
    assert [float(v) for v in positions(x, "centroid")] == [3.0, 5.0]


def test_a_learned_beta_gets_a_gradient():
    mask = Mask(2, learned=True)
    mask(torch.rand(2, 2, 5, 5)).sum().backward()
    assert (mask.beta.grad < 0).all()  # a steeper mask keeps less


@pytest.mark.parametrize("tau", [0.5 / 16, 0.5, 5.0])
def test_mutual_information_and_its_gradient_are_exact(tau):
    x = maps(5, 1, 4, 4, seed=3).requires_grad_()
    found = mutual_information(x, tau)
    plain = x.detach()[:, 0].tolist()
    assert found[0].item() == pytest.approx(reference.mutual_information(plain, tau, 4.0), rel=1e-9)
    found.sum().backward()
    for n, i, j in [(0, 0, 0), (1, 2, 3), (4, 3, 1)]:
        exact = reference.gradient(plain, tau, 4.0, n, i, j)
        assert float(x.grad[n, 0, i, j]) == pytest.approx(exact, rel=1e-7, abs=1e-15)


def test_mutual_information_survives_large_activations():
    x = (1000 * maps(4, 2, 6, 6)).requires_grad_()
    found = mutual_information(x, 5.0)
    found.sum().backward()
    assert found.isfinite().all() and x.grad.isfinite().all()


def test_the_filter_loss_pulls_on_own_images_and_pushes_on_others():
    x, shape = maps(2, 1, 3, 3), torch.full((2, 1, 3, 3), 0.5, dtype=torch.float64)
    own = torch.tensor([[True], [False]])
    weight = torch.tensor([[1.5], [0.5]], dtype=torch.float64)
    found = filter_loss(x, shape, own, weight, torch.tensor([2.0], dtype=torch.float64))
    expected = (-1.5 * 0.5 * x[0].sum() + 0.5 * x[1].sum()) / (2 * 9) / 2
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_categories_are_those_whose_images_excite_most():
    assignment = Assignment(2, 3)
    x = torch.zeros(4, 2, 2, 2)
    x[1, 0], x[2, 1], x[3, 1] = 1.0, 2.0, 9.0  # the last image is of no category
    assignment.update(x, torch.tensor([0, 1, 2, -1]))
    assert assignment.category.tolist() == [1, 2]
    assert assignment.peak.tolist() == [1.0, 9.0]
    for _ in range(30):  # the mean runs
        x = torch.zeros(1, 2, 2, 2)
        x[0, 0] = 5.0
        assignment.update(x, torch.tensor([0]))
    assert assignment.category.tolist() == [0, 2]


def little():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), Mask(6), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 2))


def test_training_for_the_filter_loss_lowers_it_and_the_mean_of_other_images():
    net, labels = little(), torch.tensor([0, 1] * 8)
    method = Icnn(["2"], [6], torch.tensor([0.5, 0.5]), IcnnSettings(ramp=0.0))
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x[labels == 0, 0, 2:4, 2:4] += 2.0
    before = copy.deepcopy(net.state_dict())
    optimizer, seen = torch.optim.Adam(net.parameters(), 0.01), []
    with method.hooks(net):
        for _ in range(60):
            net(x)
            terms = method.terms(net, labels)
            seen.append(float(terms["filter_loss"].detach()))
            optimizer.zero_grad()
            method.weighted(terms, 0.5).backward()
            optimizer.step()
    assert (seen[0] - seen[-1]) * 64 / 6 > 0.01  # the loss is per 64 filters
    assert not torch.equal(before["0.weight"], net.state_dict()["0.weight"])


def test_the_loss_of_a_training_is_the_literal_one_minibatch_by_minibatch():
    generator = torch.Generator().manual_seed(4)
    frequency = [0.3, 0.7]
    method = Icnn(["0"], [5], torch.tensor(frequency), IcnnSettings(ramp=0.0))
    net, batches, found = nn.Sequential(Mask(5, learned=True)), [], []
    with method.hooks(net):
        for scale in (1.0, 4.0, 0.5):  # peaks that change, so that their running mean lags
            strengths = torch.tensor([0.02, 1.0, 5.0, 0.4])[:, None, None, None]
            x = torch.rand(4, 5, 3, 4, generator=generator) * strengths * scale
            labels = torch.tensor([0, 1, 1, 0])
            net(x.requires_grad_())
            found.append(float(method.terms(net, labels)["filter_loss"].detach()))
            batches.append((x.tolist(), labels.tolist()))
    assert found == pytest.approx(reference.filter_losses(batches, frequency, 4.0), rel=1e-4)


def test_the_weight_of_the_loss_grows_over_the_ramp():
    method = Icnn(["2"], [6], torch.ones(2) / 2, IcnnSettings(ramp=0.4, filter_weight=0.5))
    terms = {"filter_loss": torch.tensor(3.0), "mutual_information": torch.tensor(7.0)}
    found = [float(method.weighted(terms, progress)) for progress in (0.0, 0.1, 0.2, 0.4, 0.9)]
    assert found == pytest.approx([0.0, 3 * 0.125, 3 * 0.25, 3 * 0.5, 3 * 0.5])


def test_state_goes_on_where_it_stood():
    method = Icnn(["2"], [6], torch.tensor([0.5, 0.5]), IcnnSettings())
    net = little()
    with method.hooks(net):
        net(torch.rand(4, 3, 8, 8))
        method.terms(net, torch.tensor([0, 1, 0, 1]))
    other = Icnn(["2"], [6], torch.tensor([0.5, 0.5]), IcnnSettings())
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.assignments[0].peak, method.assignments[0].peak)
    assert other.record()["categories"] == method.record()["categories"]
