"""Layers without opinions: attention, rotary and absolute positions, norms, MLPs, blocks. Nothing here knows a modality."""
