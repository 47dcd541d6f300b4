"""Records as options of the command line: a field is written, described and checked in one place, `records`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, get_args, get_origin

import typer
from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clipdemo.records import Record
from clipdemo.sources import SOURCES

Settings = dict[str, object]  # a record's fields as the command line gave them, for the record to check


def source_options() -> type[Record]:
    """One record with the options of all sources, none of them set; their own records check them later."""
    fields: dict[str, FieldInfo] = {}
    users: dict[str, dict[str, list[str]]] = {}  # option -> what it says -> the sources that say so
    for source, kind in SOURCES.items():
        for name, field in kind.options.model_fields.items():
            fields.setdefault(name, field)
            users.setdefault(name, {}).setdefault(field.description, []).append(source)
    return create_model(
        "SourceOptions",
        __base__=Record,
        **{
            name: (
                bool | None if field.annotation is bool else str | None,
                Field(None, description=" ".join(f"[{', '.join(who)}] {what}" for what, who in users[name].items())),
            )
            for name, field in fields.items()
        },
    )


def takes(without: Collection[str] = (), **records: type[Record]) -> Callable[[Callable], Callable]:
    """Gives a command an option for each field of the records, but those named in `without`.

    `@takes(run=RunConfig)` fills the command's parameter `run` with a `Settings`. A field that two records have is one
    option, and both get its value.
    """

    def decorate(command: Callable) -> Callable:
        fields = {
            name: field
            for record in records.values()
            for name, field in record.model_fields.items()
            if name not in without
        }
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def parsed(**values: object) -> object:
            given = {name: value for name in fields if (value := values.pop(name)) is not None}
            groups = {
                group: {name: given[name] for name in record.model_fields if name in given}
                for group, record in records.items()
            }
            return command(**values, **groups)

        kept = [p.replace(kind=p.KEYWORD_ONLY) for name, p in own.parameters.items() if name not in records]
        added = [_parameter(name, field) for name, field in fields.items()]
        own_first = [p for p in kept if p.default is p.empty]
        parsed.__signature__ = own.replace(parameters=[*own_first, *added, *(p for p in kept if p not in own_first)])
        parsed.__annotations__ = {name: p.annotation for name, p in parsed.__signature__.parameters.items()}
        return parsed

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """The field as typer reads it; numbers' limits and texts are the record's to check, and so are defaults.

    What nobody gave is None, so that a value that was given counts even where it is the default.
    """
    kind, default = field.annotation, field.get_default()
    flag = "--" + name.replace("_", "-")
    if get_origin(kind) is dict:
        kind, default, flag = list[str] | None, None, flag.removesuffix("s")
    elif get_origin(kind) is tuple:
        kind, default = list[str] | None, None
    switch = kind is bool or bool in get_args(kind)
    flags = [flag, f"--no-{flag[2:]}"] if switch else [flag]
    shown = False if default in (None, "", PydanticUndefined) else str(default)
    option = typer.Option(*flags, help=field.description, show_default=shown)
    if default is PydanticUndefined:
        default = inspect.Parameter.empty
    else:
        kind, default = kind | None, None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
