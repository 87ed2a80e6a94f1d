"""Data sets by SPEC, ready for a model, and the cards that describe them."""
