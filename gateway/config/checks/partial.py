"""Partial results of a validation: what of a file is valid, so that all other mistakes are reported at once.

A section with an invalid field is still a model: the field is None where None is allowed, and otherwise raises
AttributeError when it is read, as a missing field does, which ends the check that needs it (`readable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.config.config import Config
from gateway.config.experiments import Experiment
from gateway.core.json_values import as_object

S = TypeVar("S", bound=BaseModel)


class Invalid(str):
    """Keeps the place of an item of a list or mapping of which nothing is valid."""


@dataclass(frozen=True, slots=True)
class PartialConfig:
    """A config as far as it is valid."""

    config: Config
    """Lacks the fields that are not valid. Text that only breaks a pattern is kept: names may refer to it."""
    experiments: dict[str, Experiment]
    """The experiments that are valid as a whole."""


def partial_config(raw: dict[str, Any]) -> PartialConfig:
    """The valid part of a file. raw: its sections as they were read."""
    config, written = _constructed(Config, raw), as_object(raw.get("experiments"))
    valid = {str(name): one for name, section in written.items() if (one := _whole(Experiment, section)) is not None}
    return PartialConfig(config, valid)


def readable(check: Iterable[str]) -> Iterator[str]:
    """The mistakes that a check finds until it reads a field that is not valid, whose own mistake is reported."""
    try:
        yield from check
    except AttributeError as error:
        if not _is_unread(error):
            raise


def _is_unread(error: AttributeError) -> bool:
    section = error.obj
    return isinstance(section, Invalid) or (isinstance(section, BaseModel) and error.name in type(section).model_fields)


def in_each(config: Config, name: str, *checks: Callable[[str, Any, Config], Iterable[str]]) -> Iterator[str]:
    """The mistakes that these checks find in each entry of `keys`, or of a mapping of sections, of which something is
    valid."""
    sections = getattr(config, name, {})
    named = isinstance(sections, Mapping)
    for entry, section in sections.items() if named else enumerate(sections):
        at = f"{name}.{entry}" if named else f"{name}[{entry}]"
        for check in checks:
            yield from readable(check(at, section, config))


def numbered(values: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The names in a list that can be read, with their positions."""
    return ((i, value) for i, value in enumerate(values) if not isinstance(value, Invalid))


def _partial(model: type[S], raw: dict[Any, Any]) -> S:
    whole = _whole(model, raw)
    return _constructed(model, raw) if whole is None else whole


def _whole(model: type[S], raw: Any) -> S | None:
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None


def _constructed(model: type[S], raw: dict[Any, Any]) -> S:
    """The section, validated field by field."""
    keys = {name: field.alias or name for name, field in model.model_fields.items() if (field.alias or name) in raw}
    section = model.model_construct(set(keys))
    if section.model_extra is not None:
        section.model_extra.update(
            {key: raw[key] for key in raw if isinstance(key, str) and key not in model.model_fields}
        )
    for name, key in keys.items():
        annotation = model.model_fields[name].rebuild_annotation()
        section.__dict__.pop(name, None)
        try:
            section.__dict__[name] = _value(annotation, raw[key])
        except ValidationError:
            if NoneType in _kinds(annotation):
                section.__dict__[name] = None
    return section


def _value(annotation: Any, raw: Any) -> Any:
    """The valid part of a field's value. Raises ValidationError if there is none."""
    kinds = list(_kinds(annotation))
    for kind in kinds:
        arguments = get_args(kind)
        if isinstance(raw, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            return _partial(kind, raw)
        if isinstance(raw, dict) and raw and get_origin(kind) is dict:
            return {str(key): _item(arguments[1], value) for key, value in raw.items()}
        if isinstance(raw, list) and get_origin(kind) is tuple and arguments[1:] == (...,):
            return tuple(_item(arguments[0], value) for value in raw)
    try:
        return TypeAdapter(annotation).validate_python(raw)
    except ValidationError:
        if str in kinds and isinstance(raw, str):
            return raw
        raise


def _item(annotation: Any, raw: Any) -> Any:
    try:
        return _value(annotation, raw)
    except ValidationError:
        return Invalid()


def _kinds(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the type itself, without metadata."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _kinds(member)
    else:
        yield annotation
