"""torchvision is imported without PyTorch's compiler, in processes that have neither yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TAKES = """
import sys
from cnnlens.model.compiler_later import imported
"""


def told(code: str, *folders: Path) -> str:
    """What a fresh process prints last."""
    code = f"import sys; sys.path[:0] = {[str(one) for one in folders]!r}\n{TAKES}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_torchvision_comes_without_it_and_has_its_function_when_it_is_called():
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


@pytest.mark.parametrize("needs", [
    "from torch._dynamo.utils import is_compile_supported\nfound = is_compile_supported('cpu')",
    "from torch._dynamo.config import cache_size_limit\nfound = True",
    "import torch._dynamo.utils as u\nfound = u.counters.keys() is not None",
])  # fmt: skip
def test_a_version_that_needs_the_compiler_at_once_is_given_it(tmp_path: Path, needs: str) -> None:
    (tmp_path / "needing.py").write_text(needs)
    assert told("""
found = imported("needing").found
print(type(found).__name__, type(sys.modules["torch._dynamo.utils"]).__name__)
""", tmp_path) == "bool module"  # fmt: skip


def test_what_cannot_be_imported_is_said_as_ever(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nonesuch")
    assert told("""
try:
    imported("broken")
except ImportError as error:
    print(error, "torch._dynamo" in sys.modules)
""", tmp_path) == "No module named 'nonesuch' False"  # fmt: skip
