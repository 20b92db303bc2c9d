"""How much of a run's skill a guess by place alone would have: ``python tools/by_place.py RUN [RUN ...]``.

A run's skill is told over the mean patch. Where records begin at one place, as beats that were cut out do, the mean of each
place (moment and lead) says more than that; the skill over *it* is what was learned of the rest of a record. Records are those
of the run's ``data.files``, split as the run's.

Shape suffixes: R records, N tokens, P samples a patch.
"""

import argparse
import glob
import json
from pathlib import Path

import torch
import yaml
from mmm_ecg.ecg import Ecg

from mmm.core.draw import Draw, hash64
from mmm.core.modality import Record


def held_out(record: Record, name: str, share: float) -> bool:
    """Whether a record is a validation record, by its hash, as ``mmm.data`` splits them."""
    sample = hash64(name.encode() + b"\0" + record.key)
    return bool(Draw(0).stream("split").uniform(torch.tensor([sample])) < share)


def by_place(run: Path) -> str:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    ((name, init),) = ((n, m["init_args"]) for n, m in recipe["model"]["modalities"].items() if m["class_path"] == "Ecg")
    skill = json.loads((run / "summary.json").read_text())["skill"][name]
    ecg = Ecg(**init)
    given = recipe["data"]["files"][name]
    files = sorted(f for pattern in ([given] if isinstance(given, str) else given) for f in glob.glob(pattern, recursive=True))
    split: dict[bool, list[Record]] = {True: [], False: []}
    for file in files:
        for record in ecg.tokenizer.records(Path(file)):
            split[held_out(record, name, recipe["data"]["validation"])].append(record)
    ecg.fit(split[False])
    total: dict[tuple[int, ...], torch.Tensor] = {}
    count: dict[tuple[int, ...], int] = {}
    for record in split[False]:
        piece = ecg.tokenizer.tokenize(record.raw)
        for place, content_P in zip(map(tuple, piece.positions.tolist()), piece.content.double(), strict=True):
            total[place] = total.get(place, 0) + content_P
            count[place] = count.get(place, 0) + 1
    mean_P = sum(total.values()) / sum(count.values())
    error = place_error = 0.0
    for record in split[True]:
        piece = ecg.tokenizer.tokenize(record.raw)
        for place, content_P in zip(map(tuple, piece.positions.tolist()), piece.content.double(), strict=True):
            known_P = total[place] / count[place] if place in count else mean_P
            error += float((content_P - mean_P).square().mean())
            place_error += float((content_P - known_P).square().mean())
    share = place_error / error
    return (
        f"{run}: skill {skill['value']:.3f} over the mean patch; a guess by place has {1 - share:.3f}; "
        f"over that guess, the run's is {1 - (1 - skill['value']) / share:.3f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of pre-training runs on own files")
    for run in parser.parse_args().runs:
        print(by_place(run))
