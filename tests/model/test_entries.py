from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cnnlens.errors import UsageError
from cnnlens.model import zoo
from cnnlens.model.entries import find_entries
from cnnlens.model.open import open_model
from cnnlens.settings.run import ModelSettings

STATE = zoo.shapes_net().state_dict()
OTHER = {k: v + 1 for k, v in STATE.items()}
FIRST = next(k for k, v in STATE.items() if v.ndim == 4)
BOTH: dict[str, Any] = {
    "raw_and_ema": {"state_dict": STATE, "state_dict_ema": OTHER, "epoch": 1},
    "ema_first": {"state_dict_ema": OTHER, "state_dict": STATE},
    "nested": {"model": {"raw": STATE, "ema": OTHER}, "optimizer": {"state": OTHER}},
    "tuple": ({"model": STATE}, {"optimizer": OTHER}),
    "any_key": {"what_i_kept": {"deep": {"deeper": STATE}}},
    "alone": STATE,
}


@pytest.mark.parametrize("kind", BOTH)
def test_the_usual_weights_come_first(kind: str) -> None:
    assert torch.equal(find_entries(BOTH[kind])[0].state[FIRST], STATE[FIRST])


@pytest.mark.parametrize(
    ("kind", "key"), [("raw_and_ema", "state_dict_ema"), ("nested", "model.ema")]
)
def test_weights_chooses_an_entry_and_a_note_says_that_there_is_one(
    tmp_path: Path, kind: str, key: str
) -> None:
    path = str(tmp_path / "net.pth")
    torch.save(BOTH[kind], path)
    usual = open_model(path, device="cpu")
    assert torch.equal(usual.net.state_dict()[FIRST], STATE[FIRST])
    assert any(f"--weights opens {key}" in note for note in usual.notes)
    other = open_model(path, weights=key, device="cpu")
    assert torch.equal(other.net.state_dict()[FIRST], OTHER[FIRST])
    assert other.fingerprint != usual.fingerprint
    with pytest.raises(UsageError, match=f"has no weights '{key}s'") as caught:
        open_model(path, weights=f"{key}s", device="cpu")
    assert key in caught.value.hint


def test_weights_of_what_is_no_file_are_refused() -> None:
    with pytest.raises(UsageError, match="--weights names an entry of a file"):
        open_model("zoo:shapes_net", weights="teacher", device="cpu")


def test_later_commands_open_the_same_entry() -> None:
    chosen = ModelSettings(weights="teacher").as_arguments()
    assert ModelSettings().as_arguments(chosen)["weights"] == "teacher"
