"""`Scenario`: the immutable description of what to simulate, from a preset, a TOML file or Python.

A scenario is a list of projects, each a small world of its own: its issues, agents, runners and people. In a file,
keys beside ``[[projects]]`` hold for every project, and a project's own table overrides them:

.. code-block:: toml

    speed = 60
    [agents]
    developers = 3
    [[projects]]
    name = "apollo"
    issues.rate_per_h = 6

A file without ``[[projects]]`` has one project, named like the scenario, which is named like the file unless it has a
``name``. Units stand in the names of the keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.laws import Positive
from syndarix_rt.simulation.section import Section, build, merge, near_miss, plain
from syndarix_rt.simulation.settings import Project

__all__ = ["Scenario", "presets"]


class Scenario(Section, frozen=True):
    """What to simulate; immutable, and never wrong once it exists.

    Raises:
        ScenarioError: from every way of making one; ``path`` is the key as in the TOML file.
    """

    name: str
    projects: Annotated[tuple[Project, ...], Meta(min_length=1)]
    description: str = ""
    """One line: what to look for."""
    speed: Positive = 60.0  # [P]: an hour in a minute; a median run of 10 min takes 10 s
    """Simulated seconds per wall second that playback takes unless told otherwise."""
    horizon_h: Positive | None = None
    """Simulated time after which the simulation ends; None: it goes on for as long as somebody takes events."""
    allow_overload: bool = False
    """Whether a queue may get more work than its servers can do."""
    profile: str = "default"
    """Where the defaults come from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [project.name for project in self.projects]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ScenarioError(f"two projects are named {twice!r}", "projects")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Scenario:
        """A preset by its name, or a scenario from a TOML file (anything that ends in ``.toml`` or has a slash)."""
        path = Path(name_or_path)
        if isinstance(name_or_path, str) and path.suffix != ".toml" and path.name == name_or_path:
            return cls.preset(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path)) from error
        try:
            return cls.from_toml(text, name=path.stem)
        except ScenarioError as error:
            raise ScenarioError(f"{error.path}: {error.reason}", str(path)) from None

    @classmethod
    def preset(cls, name: str) -> Scenario:
        """One of the scenarios of this package; :func:`presets` lists them."""
        known = _preset_names()
        if name not in known:
            hint = near_miss(name, known) or f"; there are {', '.join(known)}"
            raise ScenarioError(f"unknown preset {name!r}{hint}", "scenario")
        return cls.from_toml((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"), name=name)

    @classmethod
    def from_toml(cls, text: str, name: str = "scenario") -> Scenario:
        """A scenario from the text of a TOML file.

        Args:
            text: the document.
            name: of the scenario, if the document has no ``name``.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError(f"not TOML: {error}", "scenario") from error
        for key in document:
            if key not in _FILE_KEYS:
                hint = near_miss(key, _FILE_KEYS) or f"; known here: {', '.join(_FILE_KEYS)}"
                raise ScenarioError(f"unknown key{hint}", key)
        own = {"name": name} | {key: document.pop(key) for key in cls.__struct_fields__ if key in document}
        # What holds for every project is checked by itself first, so that an error names the key as it was written.
        defaults = {key: msgspec.to_builtins(value) for key, value in _DEFAULTS.items()}
        document = merge(defaults, document)
        build({"name": "all"} | document, Project)
        projects = own.pop("projects", [{"name": _NO_NAME.sub("-", str(own["name"]))[:64] or "project"}])
        if not isinstance(projects, list) or not all(isinstance(project, dict) for project in projects):
            raise ScenarioError("must be tables, as in [[projects]]", "projects")
        own["projects"] = tuple(
            build(merge(document, project), Project, f"projects[{index}]") for index, project in enumerate(projects)
        )
        return cls(**own)

    def replace(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> Scenario:
        """This scenario with some values changed.

        Args:
            changes: values by dotted key, such as ``{"agents.developers": 3}`` for every project, or
                ``{"projects.apollo.agents.developers": 3}`` for one.
            more: the same for keys without a dot, such as ``speed=10``.
        """
        scenario = self
        for key, value in {**(changes or {}), **more}.items():
            scenario = scenario._with(key, value)
        return scenario

    def for_project(self, name: str) -> Scenario:
        """This scenario with its only project renamed; what happens in it stays the same.

        Raises:
            ScenarioError: if it has several projects.
        """
        if len(self.projects) > 1:
            names = ", ".join(project.name for project in self.projects)
            raise ScenarioError(f"has several projects ({names}), so they cannot all become {name!r}", "projects")
        return self.replace({f"projects.{self.projects[0].name}.name": name})

    def _with(self, key: str, value: Any) -> Scenario:
        first, *rest = key.split(".")
        own = {field: getattr(self, field) for field in self.__struct_fields__}
        if first in own and not rest:
            return Scenario(**{**own, first: value})
        if first == "projects":
            if rest[0] not in (names := [project.name for project in self.projects]):
                raise ScenarioError(f"no such project{near_miss(rest[0], names)}", key)
            own["projects"] = tuple(
                _changed(project, rest[1:], value, f"projects.{rest[0]}") if project.name == rest[0] else project
                for project in self.projects
            )
        elif first in _DEFAULTS:
            own["projects"] = tuple(_changed(project, [first, *rest], value) for project in self.projects)
        else:
            raise ScenarioError(f"unknown key{near_miss(first, _FILE_KEYS) if first not in own else ''}", key)
        return Scenario(**own)


def presets() -> dict[str, str]:
    """The scenarios of this package: name and what to look for."""
    return {name: Scenario.preset(name).description for name in _preset_names()}


_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")  # what cannot stand in a project's name
_PRESETS = resources.files("syndarix_rt.simulation") / "presets"
_DEFAULTS = {
    key: value
    for key, value in msgspec.structs.asdict(Project(name="any")).items()
    if key not in ("name", "random_key")
}
_FILE_KEYS = [*Scenario.__struct_fields__, *_DEFAULTS]


def _preset_names() -> list[str]:
    return sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir() if path.name.endswith(".toml"))


def _changed(project: Project, keys: list[str], value: Any, path: str = "") -> Project:
    changes = plain(value, ".".join([path, *keys]).removeprefix("."))
    for key in reversed(["project", *keys]):
        changes = {key: changes}
    return build(merge({"project": msgspec.to_builtins(project)}, changes)["project"], Project, path)
