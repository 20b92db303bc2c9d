"""``python -m mmm_smiles.prepare NAME FOLDER SOURCE``: make the data of a card that are downloaded by hand."""

import argparse
from pathlib import Path

from mmm_smiles.prepare import esol, tox21

parser = argparse.ArgumentParser(prog="python -m mmm_smiles.prepare", description="Make the data of a card.")
actions = parser.add_subparsers(dest="name", metavar="NAME", required=True)
for name, module in {"esol": esol, "tox21": tox21}.items():
    action = actions.add_parser(name, help=(module.__doc__ or "").strip().split("\n")[0])
    action.add_argument("folder", type=Path, help="the card's folder: $MMM_DATA/CARD, or ~/.cache/mmm/data/CARD")
    action.add_argument("source", type=Path, help="the table as it was published, plain or gzip")
    action.set_defaults(prepare=module.prepare)
args = parser.parse_args()
try:
    args.folder.mkdir(parents=True, exist_ok=True)
    print(args.prepare(args.folder, args.source))
except (OSError, ValueError) as error:
    parser.exit(1, f"{error}\n")
