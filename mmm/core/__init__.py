"""The contract: what a modality, a masking, a corruption, a target, an encoder, a decoder and an objective are.

> A Modality turns raw samples into Tokens; an Objective makes Views of them, asks the Model, and scores the answers
> against Targets.

Nothing here names a method or a modality; nothing here imports a family.
"""
