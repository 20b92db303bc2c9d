"""``python tools/pima.py pima-indians-diabetes.csv pima.csv``: the Pima diabetes data with names, missing cells left out.

The file of the UCI repository names no column, and writes 0 where nobody measured (an insulin of 0 is none); the label becomes
``positive`` or ``negative``.
"""

import csv
import sys
from pathlib import Path

NAMES = ("pregnancies", "glucose", "blood pressure", "triceps fold", "insulin", "bmi", "pedigree", "age", "label")
MEASURED = {"glucose", "blood pressure", "triceps fold", "insulin", "bmi"}


def main(source: Path, made: Path) -> None:
    with source.open(newline="") as file, made.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(NAMES)
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) != len(NAMES) or row[-1] not in ("0", "1"):
                sys.exit(f"{source}, line {number}: no {len(NAMES) - 1} values and a label of 0 or 1")
            cells = [
                "" if name in MEASURED and float(cell) == 0 else cell for name, cell in zip(NAMES[:-1], row[:-1], strict=True)
            ]
            table.writerow([*cells, ("negative", "positive")[int(row[-1])]])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
