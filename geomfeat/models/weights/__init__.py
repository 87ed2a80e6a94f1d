"""Files of weights: formats, names of parameters, loading and saving, never with pickled code."""
