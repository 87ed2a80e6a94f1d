"""From what a model returns to its outputs (n, C): which tensor, which tokens, and whether logits lose their mean."""
