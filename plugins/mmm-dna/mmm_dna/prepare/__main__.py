"""``python -m mmm_dna.prepare promoters FOLDER SOURCE``: make the data of a card that are downloaded by hand."""

import argparse
from pathlib import Path

from mmm_dna.prepare import promoters

parser = argparse.ArgumentParser(prog="python -m mmm_dna.prepare", description="Make the data of a card.")
actions = parser.add_subparsers(dest="name", metavar="NAME", required=True)
action = actions.add_parser("promoters", help=(promoters.__doc__ or "").strip().split("\n")[0])
action.add_argument("folder", type=Path, help="the card's folder: $MMM_DATA/dna-promoters, or ~/.cache/mmm/data/dna-promoters")
action.add_argument("source", type=Path, help="dev.tsv or dev.tsv.gz of DNABERT")
args = parser.parse_args()
try:
    args.folder.mkdir(parents=True, exist_ok=True)
    print(promoters.prepare(args.folder, args.source))
except (OSError, ValueError) as error:
    parser.exit(1, f"{error}\n")
