"""Data sets by SPEC, ready for a model, and the cards that describe them."""

from geomfeat.data._load_data import load_data
from geomfeat.data.cards import read_card
from geomfeat.data.dataset import Dataset

__all__ = [
    "Dataset",
    "load_data",
    "read_card",
]
