"""An explained image in a reader's words; all of them follow from its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_FAR = 10  # times its strength: a unit that had to answer more is not said to turn anything
Found = Mapping[str, Any]  # an image's JSON, see `Explanation.as_dict`, or one split of its path


def predicted(found: Found) -> str:
    """Say what the network says, what the image is, and whether that is right."""
    if found["class"] is None:
        said = "the network gives no class scores"
    else:
        second = found.get("second")
        said = f"the network says {_likely(found['class_name'], found['probability'])}"
        said += f", then {_likely(second['class_name'], second['probability'])}" if second else ""
    true = found.get("true")
    if true is None:
        return f"{said}; what it is, is not known (no class folder says it)"
    return (
        f"{said}; it is {true['category']}"
        + {True: ": right", False: ": wrong", None: ""}[found["right"]]
    )


def turned(found: Found) -> str:
    """Say without which unit of its path the network would say something else; empty: unknown."""
    units = {s["critical_filter"]: s["without"] for s in found["path"] if s.get("without")}
    if not units:
        return ""
    names = {s["critical_filter"]: s.get("detects") for s in found["path"]}
    others = [unit for unit in units if unit in found["turned"]]
    if others:
        words = [
            f"without {unit_name(unit, names[unit])} it says "
            f"{_likely(units[unit]['name'], units[unit]['probability'])}"
            for unit in others[:3]
        ]
        more = f", and {len(others) - 3} more" if len(others) > 3 else ""
        return f"What would have turned it: {'; '.join(words)}{more}"
    drops = {unit: one["kept"] for unit, one in units.items() if one["kept"] is not None}
    count = "the one unit" if len(units) == 1 else f"any one of the {len(units)} units"
    said = f"What would have turned it: nothing of this path alone; without {count} below it "
    said += f"still says {found['class_name']}"
    if not drops or found["probability"] is None:
        return said
    least = min(drops, key=lambda unit: drops[unit])
    return f"{said}, least surely ({drops[least]:.1%}) without {unit_name(least, names[least])}"


def unit_name(unit: int | None, detects: str | None) -> str:
    """Name a unit, with its label where it was dissected."""
    if unit is None:
        return "no unit left"
    return f"unit {unit}" + (f" · {detects}" if detects else "")


def step(split: Found, category: str) -> Iterator[str]:
    """Say of a split how strongly the unit answers, where the image goes, what had turned it."""
    if "activation" in split:
        own, every = (f"{split[key]:.0%}" for key in ("share_below_category", "share_below_data"))
        yield (
            f"It answers {split['activation']:.3g}: more than on {own} of the images of {category} "
            f"and on {every} of all."
        )
    yield (
        f"The image goes with {split['images_chosen']} of {split['images']} images, at distance "
        f"{split['to_chosen']:.3f}; to the others it is {split['to_other']:.3f}."
    )
    yield _turn(split)


def _turn(split: Found) -> str:
    """Say what of a unit would have sent the image to the other side, as far as that is near."""
    turn, easiest = (_near(split.get(key)) for key in ("turn", "easiest"))
    if turn:
        said = f"It would have gone the other way, had this unit answered {_times(turn['scale'])}"
        if easiest and easiest["unit"] != turn["unit"]:
            said += f"; the least that would: unit {easiest['unit']} at {_times(easiest['scale'])}"
        return f"{said}."
    if easiest:
        least = f"unit {easiest['unit']}, had it answered {_times(easiest['scale'])}"
        return f"Not this unit would have sent it the other way, but {least}."
    return f"No single unit would have sent it the other way, up to {_FAR} × its strength."


def _near(turn: Found | None) -> Found | None:
    return turn if turn and turn["scale"] <= _FAR else None


def _times(scale: float) -> str:
    return "nothing at all" if scale < 0.005 else f"{scale:.2g} × as much"


def _likely(name: str, probability: float | None) -> str:
    return name if probability is None else f"{name} ({probability:.1%})"
