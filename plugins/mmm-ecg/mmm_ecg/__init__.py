"""Electrocardiograms for mmm: a modality (``Ecg``) and readers of WFDB records and arrays."""
