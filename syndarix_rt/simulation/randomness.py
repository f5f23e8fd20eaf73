"""Random streams: one generator for each purpose, so that no draw anywhere can shift another.

A generator's key is the seed, the project, the kind of process and the number of the entity within it. Two scenarios
with the same seed therefore give the same issue the same luck, whatever else changed (common random numbers), and a
project's streams do not depend on which other projects there are.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

__all__ = ["RandomStreams"]


class RandomStreams:
    """The generators of one project.

    Args:
        seed: of the simulation.
        project_key: what tells this project's streams from those of the others.
    """

    def __init__(self, seed: int, project_key: str) -> None:
        self._seed = seed
        self._project = crc32(project_key.encode())

    def generator(self, process: str, *entity: int) -> np.random.Generator:
        """The generator of a process kind, or of one entity of it; the same key gives the same numbers."""
        # crc32 because it is the same in every process, which hash() is not.
        key = (self._project, crc32(process.encode()), *entity)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed, spawn_key=key)))
