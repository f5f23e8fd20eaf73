"""JSON schemas of our structs, as the descriptions of the server have them under ``#/components/schemas``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

import msgspec

from syndarix_rt.events.catalogue import TYPE_PATTERN
from syndarix_rt.events.rules import PROJECT_PATTERN

__all__ = ["component_schemas", "reference"]

_PREFIX = "#/components/schemas/"


def reference(kind: Any) -> dict[str, Any]:
    """What stands where a struct is meant."""
    return {"$ref": _PREFIX + kind.__name__}


def component_schemas(kinds: Iterable[Any]) -> dict[str, Any]:
    """Schemas by name, of structs and all that they are made of."""
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_PREFIX + "{name}")
    for schema in schemas.values():
        if "description" in schema:  # a docstring, of which what concerns Python is left out
            schema["description"] = re.split(r"\n\n(?:Args|Raises|Attributes):", cleandoc(schema["description"]))[0]
    if event := schemas.get("Event"):
        # Other attributes stand beside the known ones, which the struct cannot say.
        known = {name: schema for name, schema in event["properties"].items() if not name.startswith("extensions")}
        known["specversion"] = {"const": "1.0"}
        known["type"] |= {"pattern": f"^{TYPE_PATTERN.pattern}$"}
        known["project"] |= {"pattern": f"^{PROJECT_PATTERN.pattern}$"}
        known["time"] |= {"format": "date-time"}
        schemas["Event"] = event | {"properties": known, "additionalProperties": True}
    return schemas
