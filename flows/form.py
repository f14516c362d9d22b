"""The fields of a flow's form in the Prefect UI.

Prefect 3 titles every parameter with its Python name and describes it from the docstring alone, whatever `Field` says;
what stands in `json_schema_extra` is merged last and wins. Their order is the signature's.
"""

from typing import Any

from pydantic import Field


def field(title: str, description: str) -> Any:
    """A parameter's title and description, for use within `Annotated`."""
    return Field(json_schema_extra={"title": title, "description": description})
