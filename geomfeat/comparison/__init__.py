"""Several models on the same samples: how alike their layers are, how their geometry runs over depth, and brains."""
