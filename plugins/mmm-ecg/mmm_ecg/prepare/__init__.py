"""Makes the data of this package's cards: ``python -m mmm_ecg.prepare ecg5000 FOLDER SOURCE``."""
