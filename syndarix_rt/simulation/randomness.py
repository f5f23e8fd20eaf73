"""Random streams: one generator for each purpose, so that no draw anywhere can shift another.

A generator's key is the seed, the project, the kind of process and the number of the entity within it. Two scenarios
with the same seed therefore give the same issue the same luck, whatever else changed (common random numbers), and a
project's streams do not depend on which other projects there are.

A cryptographic hash of the key fills the whole state of the generator (PCG64: 128 bits of state, 128 of increment), so
streams are as unrelated as those that numpy's ``SeedSequence`` spawns from its pool of 128 bits. It takes a sixth of
the time, which counts, because each run of an agent has a generator of its own.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

__all__ = ["RandomStreams"]


class RandomStreams:
    """The generators of one project.

    Args:
        seed: of the simulation.
        project_key: what tells this project's streams from those of the others.
    """

    def __init__(self, seed: int, project_key: str) -> None:
        self._digest = blake2b(f"{seed}/{project_key}/".encode(), digest_size=_Seed.BYTES)

    def generator(self, process: str, *entity: int) -> np.random.Generator:
        """The generator of a process kind, or of one entity of it; the same key gives the same numbers."""
        digest = self._digest.copy()
        digest.update(f"{process}/{entity}".encode())
        return np.random.Generator(np.random.PCG64(_Seed(digest.digest())))  # type: ignore[arg-type] # numpy's stub forgets ISeedSequence


class _Seed(ISeedSequence):
    """What numpy asks for the first state of a generator."""

    BYTES = 32

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        """Words of the digest, the same on every machine."""
        return np.frombuffer(self._digest, np.dtype(dtype).newbyteorder("<"), n_words).astype(dtype)
