"""PyTorch's compiler is imported when it is asked for, in processes that have not got it yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import bare

TAKES = "import sys\nfrom cnnlens.model.compiler_later import imported\n"


@pytest.fixture
def told(tmp_path):
    """The last line that a process prints which has nothing but PyTorch."""

    def run(code: str) -> str:
        done = bare.run(f"{TAKES}sys.path.insert(0, {str(tmp_path)!r})\n{code}")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    return run


def test_torchvision_comes_without_it_and_has_its_function_when_it_is_called(told):
    assert (
        told("""
before = imported("torchvision.models").resnet18 and "torch._dynamo" in sys.modules
from torchvision.ops import roi_align
import torch
box = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
rois = roi_align(torch.arange(16.0).reshape(1, 1, 4, 4), [box], 2)
from torch._dynamo.utils import is_compile_supported
same = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
print(before, rois.shape[-1], same == is_compile_supported("cpu"), type(same).__name__)
""")
        == "False 2 True bool"
    )


NEEDS = (
    "from torch._dynamo.config import cache_size_limit; found = cache_size_limit > 0",
    "import torch._dynamo.utils as u; found = u.counters.keys() is not None",
)


def test_a_version_that_needs_the_compiler_at_once_is_given_it(told, tmp_path: Path) -> None:
    for number, needs in enumerate(NEEDS):
        (tmp_path / f"needing{number}.py").write_text(needs)
        assert told(f"""
found = imported("needing{number}").found
print(type(found).__name__, type(sys.modules["torch._dynamo.utils"]).__name__)
""") == "bool module"  # fmt: skip


def test_what_cannot_be_imported_is_said_as_ever(told, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nonesuch")
    assert told("""
try:
    imported("broken")
except ImportError as error:
    print(error, "torch._dynamo" in sys.modules)
""") == "No module named 'nonesuch' False"  # fmt: skip


def test_optimizers_and_process_groups_do_without_it_and_who_compiles_is_given_it(told):
    assert told("""
from cnnlens.__main__ import main
sys.argv[1:] = ["--version"]
try:
    main()  # which puts the compiler off
except SystemExit:
    pass
import torch
import torch.distributed as dist

def steps(rule):
    torch.manual_seed(0)
    weight = torch.randn(5, requires_grad=True)
    optimizer = rule([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        optimizer.step(lambda: loss)
    return weight.tolist()

rules = (torch.optim.Adam, torch.optim.NAdam, torch.optim.SGD, torch.optim.LBFGS)
without = [steps(rule) for rule in rules]
dist.init_process_group("gloo", init_method="file://" + sys.path[0] + "/meet", rank=0, world_size=1)
dist.destroy_process_group()
before = "torch._dynamo.eval_frame" in sys.modules
doubled = torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(2))
after = "torch._dynamo.eval_frame" in sys.modules
print(before, doubled.tolist(), after, without == [steps(rule) for rule in rules])
""") == "False [2.0, 2.0] True True"  # fmt: skip
