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
``name``. Units stand in the names of the keys. Two keys say what holds where the file says nothing: ``profile``, a
profile of this package or a file of constants, and ``extends``, a preset or another file. A file has the luck of the
one that it extends (its ``random_key``), so that the two can be compared issue by issue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation import toml
from syndarix_rt.simulation.laws import Positive
from syndarix_rt.simulation.load import refuse_overload
from syndarix_rt.simulation.profile import Profile, is_name, profiles
from syndarix_rt.simulation.section import Section, build, near_miss, plain
from syndarix_rt.simulation.settings import Project
from syndarix_rt.simulation.tables import Table, common, difference, merge, nested, path_parts

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
    """Whether a queue may get more work than its servers can do, so that its backlog grows for ever."""
    profile: str = "default"
    """Name of the profile that the defaults came from, or its file; a label: only :meth:`from_toml` and
    :meth:`replace` apply a profile."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_twins(self.projects)
        if not self.allow_overload:
            refuse_overload(self)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Scenario:
        """A preset by its name, or a scenario from a TOML file (anything that ends in ``.toml`` or has a slash)."""
        return _read(name_or_path, "scenario").scenario()

    @classmethod
    def preset(cls, name: str) -> Scenario:
        """One of the scenarios of this package; :func:`presets` lists them."""
        return _preset(name).scenario()

    @classmethod
    def from_toml(cls, text: str, name: str = "scenario") -> Scenario:
        """A scenario from the text of a TOML file.

        Args:
            text: the document; paths in it are relative to the working directory.
            name: of the scenario, if the document has no ``name``.
        """
        return _File(toml.parse(text, "scenario"), name, Path()).scenario()

    def to_toml(self) -> str:
        """The text of a TOML file from which the same scenario comes."""
        defaults = _defaults(self.profile)
        document: Table = {key: getattr(self, key) for key in self.__struct_fields__ if key != "projects"}
        for key, default in (("description", ""), ("allow_overload", False), ("profile", "default")):
            if document[key] == default or (key == "profile" and defaults is None):
                del document[key]
        defaults = defaults or _DEFAULTS
        tables = [msgspec.to_builtins(project) for project in self.projects]
        for table in tables:
            if table["random_key"] == table["name"]:
                del table["random_key"]
        shared = common(difference(table, defaults) for table in tables)
        if len(tables) > 1 or tables[0].get("random_key") or tables[0]["name"] != _project_name(self.name):
            shared.pop("name", None)
            shared.pop("random_key", None)
            below = merge(defaults, shared)
            shared["projects"] = [difference(table, below) for table in tables]
        else:
            del shared["name"]
        return toml.write({**document, **shared})

    def replace(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> Scenario:
        """This scenario with some values changed, all at once.

        Args:
            changes: values by key, such as ``{"agents.developers": 3}`` or ``{"faults[0].minutes": 30}`` for every
                project, or ``{"projects.apollo.agents.developers": 3}`` for one. A table changes single values of the
                one that is there, unless it names its law, process or kind; a list replaces the list. ``profile``
                (a name, a file or a `Profile`) changes all that the scenario took from its present profile.
            more: the same for keys without a dot, such as ``speed=10``.
        """
        scenario = {field: getattr(self, field) for field in self.__struct_fields__}
        if not isinstance(changes, Mapping | None):
            raise ScenarioError(f'must be values by key, as in {{"agents.developers": 3}}, not {changes!r}', "changes")
        changes = {**(changes or {}), **more}
        projects = scenario.pop("projects")
        if "profile" in changes:
            scenario["profile"], projects = self._with_profile(changes.pop("profile"))
        paths = {project.name: "" for project in projects}
        tables = {project.name: msgspec.to_builtins(project) for project in projects}
        for key, given in changes.items():
            value = plain(given, key)
            first, *rest = path_parts(key)
            if first == "projects" and not rest:
                projects = build(value, tuple[Project, ...], key)
                _refuse_twins(projects)
                tables = {project.name: msgspec.to_builtins(project) for project in projects}
                paths = dict.fromkeys(tables, "")
            elif first == "projects":
                name = str(rest[0])
                if isinstance(rest[0], int):
                    named = f"projects.{next(iter(tables))}{key.removeprefix(f'projects[{name}]')}"
                    raise ScenarioError(f"projects go by their names, as in {named}", key)
                if name not in tables:
                    hint = near_miss(name, list(tables)) or f"; there are {', '.join(tables)}"
                    raise ScenarioError(f"no such project{hint}", key)
                paths[name] = f"projects.{name}"
                tables[name] = merge({"": tables[name]}, nested(["", *rest[1:]], value))[""]
            elif first in scenario and not rest:
                scenario[first] = value
            elif first in _DEFAULTS:
                tables = {name: merge(table, nested([first, *rest], value)) for name, table in tables.items()}
            else:
                raise ScenarioError(
                    f"unknown key{near_miss(str(first), _FILE_KEYS) if first not in _FILE_KEYS else ''}", key
                )
        return Scenario(
            **scenario, projects=tuple(build(table, Project, paths[name]) for name, table in tables.items())
        )

    def __repr__(self) -> str:
        """One line, for cells and messages; :meth:`to_toml` tells all."""
        first, count = self.projects[0].name, len(self.projects)
        return f"<Scenario {self.name!r} of {f'{count} projects' if count > 1 else f'project {first!r}'}>"

    def for_project(self, name: str) -> Scenario:
        """This scenario with its only project renamed; what happens in it stays the same.

        Raises:
            ScenarioError: if it has several projects.
        """
        if len(self.projects) > 1:
            names = ", ".join(project.name for project in self.projects)
            raise ScenarioError(f"has several projects ({names}), so they cannot all become {name!r}", "projects")
        return self.replace({f"projects.{self.projects[0].name}.name": name})

    def _with_profile(self, profile: str | Path | Profile) -> tuple[str, tuple[Project, ...]]:
        """Label and projects with another profile below what this scenario says itself."""
        below = _defaults(self.profile)
        if below is None:
            raise ScenarioError(
                f"what the scenario took from its present profile is not known: {self.profile!r} is no profile of this "
                "package and no file; save it with Profile.to_toml() and name the file",
                "profile",
            )
        new = profile if isinstance(profile, Profile) else Profile.load(profile)
        defaults = merge(_DEFAULTS, new.settings())
        tables = (msgspec.to_builtins(project) for project in self.projects)
        projects = tuple(build(merge(defaults, difference(table, below)), Project) for table in tables)
        return new.name if isinstance(profile, Profile) else str(profile), projects


def _refuse_twins(projects: tuple[Project, ...]) -> None:
    names = [project.name for project in projects]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ScenarioError(f"two projects are named {twice!r}", "projects")


def presets() -> dict[str, str]:
    """The scenarios of this package: name and what to look for."""
    return {name: _preset(name).scenario().description for name in _preset_names()}


class _File(NamedTuple):
    """A scenario's document, and where it stands."""

    document: Table
    name: str
    """Of the scenario, if the document has none."""
    directory: Path
    """What paths in it are relative to."""
    path: Path | None = None

    def scenario(self) -> Scenario:
        try:
            return _scenario(self.complete(()), self.name)
        except ScenarioError as error:
            if self.path is None:
                raise
            raise ScenarioError(f"{error.path}: {error.reason}", str(self.path)) from None

    def complete(self, heirs: tuple[str, ...]) -> Table:
        """The document over those that it extends."""
        document = dict(self.document)
        for key in ("profile", "extends"):
            if not isinstance(document.get(key, ""), str):
                raise ScenarioError("expected text: a name or a file", key)
        if not is_name(document.get("profile", "default")):
            document["profile"] = str(self.directory / document["profile"])
        if "extends" not in document:
            return document
        above = document.pop("extends")
        parent = _read(above if is_name(above) else self.directory / above, "extends")
        line = (*heirs, str(self.path or self.name))
        if str(parent.path or parent.name) in line:
            raise ScenarioError(f"goes round in a circle: {' -> '.join((*line, above))}", "extends")
        inherited = parent.complete(line)
        parent.scenario()  # so that an error in it names its file
        inherited_name = inherited.pop("name", parent.name)
        if "projects" in document:
            inherited.pop("random_key", None)
        elif "projects" not in inherited:
            inherited.setdefault("random_key", _project_name(inherited_name))
        if "projects" in inherited and "projects" not in document:
            settings = {key: value for key, value in document.items() if key in _DEFAULTS}
            inherited["projects"] = [merge(project, settings) for project in inherited["projects"]]
        return merge(inherited, document)


def _read(name_or_path: str | Path, key: str) -> _File:
    if isinstance(name_or_path, str) and is_name(name_or_path):
        return _preset(name_or_path, key)
    path = toml.path_of(name_or_path, key)
    return _File(toml.parse(toml.read(path), str(path)), path.stem, path.parent, path)


def _preset(name: str, key: str = "scenario") -> _File:
    known = _preset_names()
    if name not in known:
        hint = near_miss(name, known) or f"; there are {', '.join(known)}"
        raise ScenarioError(f"unknown preset {name!r}{hint}", key)
    return _File(toml.parse((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"), name), name, Path())


def _scenario(document: Table, name: str) -> Scenario:
    for key in document:
        if key not in _FILE_KEYS:
            hint = near_miss(key, _FILE_KEYS) or f"; known here: {', '.join(_FILE_KEYS)}"
            raise ScenarioError(f"unknown key{hint}", key)
    own = {"name": name} | {key: document[key] for key in Scenario.__struct_fields__ if key in document}
    defaults = merge(_DEFAULTS, Profile.load(own["profile"]).settings()) if "profile" in own else _DEFAULTS
    # What holds for every project is checked by itself first, so that an error names the key as it was written.
    settings = merge(defaults, {key: value for key, value in document.items() if key in _DEFAULTS})
    build({"name": "all"} | settings, Project)
    only = {"name": _project_name(str(own["name"]))}
    if "random_key" in document:
        if "projects" in own:
            raise ScenarioError("belongs into each of the [[projects]]", "random_key")
        only["random_key"] = document["random_key"]
    projects = own.pop("projects", [only])
    if not isinstance(projects, list) or not all(isinstance(project, dict) for project in projects):
        raise ScenarioError("must be tables, as in [[projects]]", "projects")
    own["projects"] = tuple(
        build(merge(settings, project), Project, f"projects[{index}]") for index, project in enumerate(projects)
    )
    return Scenario(**own)


def _project_name(scenario: str) -> str:
    """What the only project of a scenario is called."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", scenario)[:64] or "project"


def _defaults(profile: str) -> Table | None:
    """All settings as they are with a profile; None if there is no such profile."""
    if profile == "default":
        return _DEFAULTS
    if profile not in profiles() and not Path(profile).is_file():
        return None
    return merge(_DEFAULTS, Profile.load(profile).settings())


def _preset_names() -> list[str]:
    return sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir() if path.name.endswith(".toml"))


_PRESETS = resources.files("syndarix_rt.simulation") / "presets"
_DEFAULTS = {
    key: value for key, value in msgspec.to_builtins(Project(name="any")).items() if key not in ("name", "random_key")
}
_FILE_KEYS = [*Scenario.__struct_fields__, "extends", "random_key", *_DEFAULTS]
