"""Every column that a table may have is documented: those that the demo's tables lack, too."""

from __future__ import annotations

from cnnlens.files.tables import columns
from cnnlens.measure.dissected_units import ConceptExtent, DissectedUnit, TopImage
from cnnlens.measure.responses import UnitResponse
from cnnlens.measure.stable_units import UnitStability
from cnnlens.report import ablate_files, exam_files, label_files, side_by_side
from cnnlens.report.exam_files import ExaminedLabel
from cnnlens.report.net2vec_files import CurvePoint, Embedded, TopOfConcept
from tests.documented import columns as documented

OF_EXAM = ("exam", "formula_exam")  # it writes them into the tables of others
TABLES = {
    "dissect/l/units.csv": (*columns(DissectedUnit), *OF_EXAM),
    "dissect/l/concepts.csv": columns(ConceptExtent),
    "dissect/l/top.csv": columns(TopImage),
    "net2vec/l/concepts.csv": columns(Embedded),
    "net2vec/l/curves.csv": columns(CurvePoint),
    "net2vec/l/top.csv": columns(TopOfConcept),
    "label/l/units.csv": (*label_files.COLUMNS, *label_files.PLACED, "exam"),
    "exam/l/units.csv": (*columns(ExaminedLabel), *exam_files._MORE),
    "ablate/l/units.csv": ablate_files.COLUMNS,
    "ablate/l/concepts.csv": ablate_files.CONCEPT_COLUMNS,
    "units/l/units.csv": columns(UnitResponse),
    "stability/l/units.csv": columns(UnitStability),
    "compare/compare.csv": side_by_side.CSV_HEADER,
}


def test_columns_of_all_options_are_documented() -> None:
    lost = {}
    for table, made in TABLES.items():
        (known,) = [names for place, names in documented() if place.fullmatch(table)]
        lost[table] = [one for one in made if not any(name.fullmatch(one) for name in known)]
    assert not any(lost.values()), lost
