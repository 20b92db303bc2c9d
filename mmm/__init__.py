"""mmm: multimodal masked modelling."""
