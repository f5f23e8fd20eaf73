"""`Profile`: what the settings are unless a scenario says otherwise, each constant with its unit and its source.

A profile is a TOML file. A table with a ``value`` is a constant, and its path is the key: of a setting of a project,
or, under ``trace``, of a law that was measured and that no setting holds (evidence to compare with):

.. code-block:: toml

    description = "My agents."
    extends = "default"

    [runs.llm_s]
    value = { law = "lognormal", median = 3.1, sigma = 0.9 }
    unit = "s"
    source = "my recordings of May"
    n = 1200
    ks = 0.031
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from importlib import resources
from itertools import groupby, pairwise, zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from syndarix_rt.errors import MissingExtra, ScenarioError
from syndarix_rt.simulation import toml
from syndarix_rt.simulation.laws import AnyLaw
from syndarix_rt.simulation.section import Section, build, near_miss, plain, unit_of
from syndarix_rt.simulation.settings import AnyArrivals, Project
from syndarix_rt.simulation.tables import TAGS, Table, merge, nested, path_parts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Constant", "Profile", "profiles"]

Text = Annotated[str, Meta(min_length=1)]

_EVIDENCE = "trace"


class Constant(Section, frozen=True):
    """One constant of a profile."""

    key: Text
    """Of a setting, such as ``runs.llm_s``, or of evidence, such as ``trace.azure_code.interarrival_s``."""
    value: Any
    """A number, a text, a tuple of numbers, a law or an arrival process."""
    unit: Text
    """Its symbol, such as ``s``, ``min``, ``h``, ``1/h``, ``share`` or ``tokens``, or what is counted: ``calls``."""
    source: Text
    """Where the value is from; ``proposal``: nobody measured it."""
    n: Annotated[int, Meta(ge=1)] | None = None
    """Number of observations."""
    ks: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Kolmogorov-Smirnov distance between law and observations: up to 0.05 good, up to 0.10 usable."""
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(self, "value", _typed(self.value))
        unit = unit_of(self.key.rpartition(".")[2])
        if unit is not None and self.unit != unit[0]:
            raise ScenarioError(f"must be {unit[0]!r} ({unit[1]}), as the key says, not {self.unit!r}", "unit")

    @property
    def is_evidence(self) -> bool:
        """Whether no setting holds it."""
        return self.key.startswith(f"{_EVIDENCE}.")


class Profile(Section, frozen=True):
    """Defaults of the settings, with their sources; immutable, and never wrong once it exists.

    Raises:
        ScenarioError: from every way of making one; ``path`` is the constant's key.
    """

    name: Text
    constants: tuple[Constant, ...]
    """Its own, by key."""
    description: str = ""
    """One line."""
    extends: str = "default"
    """The profile of this package whose constants hold where this one has none; empty for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        constants = tuple(sorted(self.constants, key=lambda constant: constant.key))
        msgspec.structs.force_setattr(self, "constants", constants)
        keys = [constant.key for constant in constants]
        for key, following in pairwise(keys):
            if following == key or following.startswith(f"{key}."):
                raise ScenarioError(f"stands beside {following}" if following != key else "stands there twice", key)
        build({"name": "any"} | self.settings(), Project)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Profile:
        """A profile of this package by its name, or one from a TOML file (that ends in ``.toml`` or has a slash)."""
        if isinstance(name_or_path, str) and is_name(name_or_path):
            return _packaged(name_or_path)
        path = toml.path_of(name_or_path, "profile")
        table = toml.parse(toml.read(path), str(path))
        try:
            return cls._from_table(table, path.stem)
        except ScenarioError as error:
            raise ScenarioError(f"{error.path}: {error.reason}", str(path)) from None

    @classmethod
    def from_toml(cls, text: str, name: str = "profile") -> Profile:
        """A profile from the text of a TOML file.

        Args:
            text: the document.
            name: of the profile, if the document has no ``name``.
        """
        return cls._from_table(toml.parse(text, "document"), name)

    def to_toml(self) -> str:
        """The text of a TOML file from which the same profile comes."""
        document: Table = {"name": self.name, "description": self.description or None, "extends": self.extends}
        for constant in self.constants:
            cells = plain(constant, constant.key)
            key = cells.pop("key")
            document = merge(document, nested(path_parts(key), {**cells, "note": constant.note or None}))
        return toml.write(document)

    def settings(self) -> Table:
        """Values of all settings that this profile or what it extends knows, as nested plain tables."""
        own = (constant for constant in self.constants if not constant.is_evidence)
        tables = (nested(path_parts(constant.key), plain(constant.value, constant.key)) for constant in own)
        return reduce(merge, tables, _packaged(self.extends).settings() if self.extends else {})

    def __repr__(self) -> str:
        """One line, for cells and messages; :meth:`explain` tells all."""
        return f"<{type(self).__name__} {self.name!r} of {len(self.constants)} constants>"

    def __getitem__(self, key: str) -> Constant:
        """The constant of this profile or what it extends.

        Raises:
            ScenarioError: there is none.
        """
        constants = self._resolved()
        if key not in constants:
            raise ScenarioError(f"unknown constant{near_miss(key, list(constants))}", key)
        return constants[key]

    def explain(self) -> str:
        """Its own constants with unit, source, number of observations, KS distance and note: 120 columns wide."""
        lines = [f"{self.name}: {self.description}"]
        if self.extends:
            lines.append(f"What is not here is as in profile {self.extends!r}.")
        lines += ["", _line(_HEADER)]
        for group, constants in groupby(self.constants, key=lambda constant: constant.key.rpartition(".")[0]):
            lines.append(group or "project")
            for constant in constants:
                cells = (
                    "  " + constant.key.rpartition(".")[2],
                    _shown(constant.value),
                    constant.unit,
                    constant.source,
                    f"{constant.n:,}" if constant.n else "",
                    f"{constant.ks:.3f}" if constant.ks is not None else "",
                )
                columns = [
                    wrap(cell, width, drop_whitespace=index > 0)
                    for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
                ]
                lines += map(_line, zip_longest(*columns, fillvalue=""))
                lines += wrap(constant.note, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Its own constants, one row each: ``key value unit source n ks note``; laws as objects.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("analysis", "a profile as a frame") from None
        fields = Constant.__struct_fields__
        return pd.DataFrame(
            {field: [getattr(constant, field) for constant in self.constants] for field in fields}
        ).astype({"n": "Int64", "ks": "float64"})

    def _resolved(self) -> dict[str, Constant]:
        below = _packaged(self.extends)._resolved() if self.extends else {}  # noqa: SLF001 - of the same class
        return below | {constant.key: constant for constant in self.constants}

    @classmethod
    def _from_table(cls, document: Table, name: str) -> Profile:
        own = {"name": name} | {key: document.pop(key) for key in _OWN_KEYS if key in document}
        profile: Profile = build({**own, "constants": list(_constants(document, ""))}, cls)
        return profile


def profiles() -> dict[str, str]:
    """The profiles of this package: name and description."""
    return {name: _packaged(name).description for name in _names()}


def is_name(name_or_path: str) -> bool:
    """Whether it names something of this package, rather than a file."""
    return not name_or_path.endswith(".toml") and Path(name_or_path).name == name_or_path


_PROFILES = resources.files("syndarix_rt.simulation") / "profiles"
_OWN_KEYS = ("name", "description", "extends")
_HEADER = ("KEY", "VALUE", "UNIT", "SOURCE", "N", "KS")
_WIDTHS = (27, 36, 9, 28, 8, 5)  # 118 columns with the blanks between them
_WIDTH = 120
_INDENT = " " * (_WIDTHS[0] + 1)
"""Of notes, so that they begin below the values."""


def _names() -> list[str]:
    return sorted(path.name.removesuffix(".toml") for path in _PROFILES.iterdir() if path.name.endswith(".toml"))


@cache
def _packaged(name: str) -> Profile:
    known = _names()
    if name not in known:
        hint = near_miss(name, known) or f"; there are {', '.join(known)}"
        raise ScenarioError(f"unknown profile {name!r}{hint}", "profile")
    return Profile.from_toml((_PROFILES / f"{name}.toml").read_text(encoding="utf-8"), name=name)


def _constants(table: Table, path: str) -> Iterator[Constant]:
    for key, value in table.items():
        where = f"{path}.{key}".removeprefix(".")
        if not isinstance(value, dict):
            hint = near_miss(key, list(_OWN_KEYS)) if not path else ""
            raise ScenarioError(f"is no table with value, unit and source{hint}", where)
        if "value" not in value and "source" not in value:
            yield from _constants(value, where)
            continue
        try:
            constant: Constant = build({**value, "key": where}, Constant)
        except ScenarioError as error:  # without the path, whose unit would be that of the constant
            raise ScenarioError(error.reason, f"{where}.{error.path}".removesuffix(".")) from None
        yield constant


def _typed(value: Any) -> Any:
    """A constant's value, checked, from plain values."""
    if isinstance(value, dict):
        return build(value, AnyArrivals if "process" in value else AnyLaw, "value")
    if isinstance(value, list | tuple):
        return build(value, tuple[float, ...], "value")
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"must be finite, not {value}", "value")
    if not isinstance(value, (str, int, float, AnyArrivals, AnyLaw)):
        raise ScenarioError(f"must be a number, a text, numbers, a law or arrivals, not {value!r}", "value")
    return value


def _shown(value: Any) -> str:
    """A value for people: ``lognormal median 5.496, sigma 1.153``."""
    table = plain(value, "value")
    if isinstance(table, dict):
        names = [table.pop(tag) for tag in TAGS if tag in table]
        cap = {"max": table.pop("max", None)}
        parameters = (f"{key} {_shown(item)}" for key, item in (table | cap).items() if item is not None)
        return " ".join([*names, ", ".join(parameters)])
    if isinstance(table, list | tuple):
        return f"[{', '.join(map(_shown, table))}]"
    return f"{table:,g}" if isinstance(table, float) else str(table)


def _line(cells: Iterable[str]) -> str:
    key, value, unit, source, n, ks = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return f"{key} {value} {unit} {source} {n.strip():>8} {ks.strip():>5}".rstrip()
