"""Models by name and from where they lie: folders of save_pretrained, libraries, Python files, adapters on a base."""

from geomfeat.models.sources._load_model import load_model

__all__ = ["load_model"]
