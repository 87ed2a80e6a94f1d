"""The checker of shape annotations, which jaxtyping's pytest plugin puts around the pure functions (see pyproject)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# An int will do where a float is annotated, as PEP 484 has it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
