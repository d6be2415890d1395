"""How much `dissect --formula` costs beside the dissection it belongs to.

Prints the time of `dissect` from stored activations, as it is by default (ten shuffles) and with
formulas on top, each searched for with every shuffle too; as wall and processor time, and as a
ratio with its limit. Starting Python, opening the network and extracting are on neither side.

    python benchmarks/formula.py                                     # pictures drawn on the spot
    python benchmarks/formula.py --data DIR --model squeezenet.pt    # a folder in Broden's layout
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from dissect import Case, clock, make_data, ratio_line

LIMIT = 5.0


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = arguments.images
        data = arguments.data or make_data(folder / "data", None, images)
        case = Case(arguments.model, arguments.layer, data)
        case.dissect(folder, chance=1, formula=2)  # extracts, compiles
        spent: dict[int, list[tuple[float, float]]] = {0: [], arguments.formula: []}
        for _ in range(arguments.repeats):
            for formula, times in spent.items():
                with clock(times):
                    case.dissect(folder, 10, formula=formula, beam=arguments.beam)
    show(case, arguments, spent)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder in Broden's layout; default: drawn")
    parser.add_argument("--images", type=int, default=500, help="of those drawn")
    parser.add_argument("--model", default="torchvision:squeezenet1_0")
    parser.add_argument("--layer", default="features.12")
    parser.add_argument("--formula", type=int, default=3)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def show(
    case: Case, arguments: argparse.Namespace, spent: dict[int, list[tuple[float, float]]]
) -> None:
    plain, with_formulas = spent.values()
    print(f"{arguments.model} {arguments.layer}, {len(case.images.paths)} images")
    for name, times in (("plain", plain), ("formulas", with_formulas)):
        wall, processor = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
        print(f"  {name:9} wall {wall:6.1f} s, cpu {processor:6.1f} s")
    how = f"--formula {arguments.formula} --beam {arguments.beam} / plain"
    ratio_line(how, with_formulas, plain, f"limit {LIMIT}")


if __name__ == "__main__":
    main()
