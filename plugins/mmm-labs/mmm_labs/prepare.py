"""Two small panels that scikit-learn carries, as tables: what the data cards of this package are made of."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

from mmm.core.errors import BadRecipe

CELLS = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
         "fractal dimension")  # fmt: skip
SERUM = ("age", "sex", "bmi", "blood pressure", "total cholesterol", "LDL", "HDL", "total cholesterol/HDL", "log triglycerides",
         "glucose")  # fmt: skip


def prepare(folder: Path, panel: str) -> str:
    """Write ``records.arff``: an attribute a code, a row a person, and the attribute ``label``.

    Args:
        folder: an empty folder to fill. panel: ``diabetes``, labelled with the disease's progression a year later, or
            ``breast-cancer``, labelled ``malignant`` or ``benign``.

    Raises:
        BadRecipe: no such panel, or scikit-learn is not installed.
    """
    if panel not in ("diabetes", "breast-cancer"):
        raise BadRecipe(f"panel {panel!r}: choices: diabetes, breast-cancer")
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise BadRecipe("the data come with scikit-learn, which is not installed: pip install scikit-learn")
    source = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    codes, rows = _diabetes(source) if panel == "diabetes" else _breast_cancer(source)
    kinds = {"sex": "{A, B}", "label": "{malignant, benign}" if panel == "breast-cancer" else "numeric"}
    head = [f"@relation {panel}", *(f"@attribute '{code}' {kinds.get(code, 'numeric')}" for code in (*codes, "label")), "@data"]
    lines = [*head, *(",".join(row) for row in rows), ""]
    (folder / "records.arff").write_text("\n".join(lines), encoding="utf-8")
    return f"{len(rows):,} records of {len(codes)} values"


def _diabetes(source: Path) -> tuple[list[str], list[list[str]]]:
    with (
        gzip.open(source / "diabetes_data_raw.csv.gz", "rt") as values,
        gzip.open(source / "diabetes_target.csv.gz", "rt") as labels,
    ):
        rows = [[*line.split(), f"{float(label):g}"] for line, label in zip(values, labels, strict=True)]
    for row in rows:
        row[1] = {"1": "A", "2": "B"}[row[1]]  # the source does not say which is which
    return list(SERUM), rows


def _breast_cancer(source: Path) -> tuple[list[str], list[list[str]]]:
    codes = [f"{kind} {cell}" for kind in ("mean", "error of", "worst") for cell in CELLS]
    with (source / "breast_cancer.csv").open(encoding="utf-8") as file:
        next(file)
        rows = [line.strip().split(",") for line in file]
    return codes, [[*row[:-1], ("malignant", "benign")[int(row[-1])]] for row in rows]
