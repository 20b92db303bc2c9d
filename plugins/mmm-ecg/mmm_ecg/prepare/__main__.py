"""``python -m mmm_ecg.prepare NAME FOLDER [SOURCE]``: make the data of a card in a folder."""

import argparse
from pathlib import Path

from mmm_ecg.prepare import ecg5000, mitdb_208

parser = argparse.ArgumentParser(prog="python -m mmm_ecg.prepare", description="Make the data of a card.")
actions = parser.add_subparsers(dest="name", metavar="NAME", required=True)
for module in (ecg5000, mitdb_208):
    action = actions.add_parser(module.__name__.rpartition(".")[2], help=module.__doc__.strip().split("\n")[0])
    action.add_argument("folder", type=Path, help="the card's folder: $MMM_DATA/CARD, or ~/.cache/mmm/data/CARD")
    if module is ecg5000:
        action.add_argument("source", type=Path, help="ECG5000_TRAIN.txt or .txt.gz of the UCR archive")
args = parser.parse_args()
args.folder.mkdir(parents=True, exist_ok=True)
try:
    print(ecg5000.prepare(args.folder, args.source) if args.name == "ecg5000" else mitdb_208.prepare(args.folder))
except ValueError as error:
    parser.exit(1, f"{error}\n")
