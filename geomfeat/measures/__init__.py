"""The registered measures: a function with declared facts each, by what they take."""
