"""How a pass is run: what it must leave out, and blocks that keep their inputs alone and are computed again."""
