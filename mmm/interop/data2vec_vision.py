"""data2vec for images of the transformers library."""

from __future__ import annotations

from ._beit import BeitLike


class Data2vecVision(BeitLike):
    """data2vec, arXiv:2202.03555: an encoder built as BEiT's."""

    kind, prefix = "data2vec-vision", "data2vec_vision"
