"""Molecules for mmm: SMILES by atoms, exact both ways; validity and random forms by RDKit where it is installed."""
