"""INI text over defaults, checked and converted by a pydantic model: every fault is one line with file and key.

A model's fields carry the name `section.key` as alias and what is expected as description. The defaults, an INI text
too, are also the list of the sections and keys there are. Values may refer to others (`${key}`, `${section:key}`),
and a path may begin with `~` or hold an environment variable, written `$$NAME`.
"""

import configparser
import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo

from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, parse_address

MAX_FILE_BYTES = 1 << 20
"""A configuration file larger than this is some other file."""

_VARIABLE_LEFT = re.compile(r"\$(\w+|\{[^}]*\})")


class Settings(BaseModel):
    """What the models of configuration files have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Settings)


def setting(name: str, expected: str, **constraints: Any) -> Any:
    """A field read from `name` (`section.key`); `expected` says in words what it takes."""
    return Field(alias=name, description=expected, **constraints)


def load_settings(path: Path, model: type[Model], defaults: str) -> Model:
    """The settings in the file at `path` over `defaults`. Raises UsageError: `FILE: [section] key: expected …`."""
    values = _interpolated(path, _read_text(path), defaults)
    try:
        return model.model_validate(values, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise _one_line(path, model, values, error) from None


def value_error(path: Path, name: str, expected: str, got: object) -> UsageError:
    """The error for the setting `name` (`section.key`) of the file at `path`."""
    section, _, key = name.partition(".")
    return UsageError(f"{path}: [{section}] {key}: expected {expected}, got {got}")


def read_sections(path: Path) -> list[str]:
    """The sections that the file at `path` has, in its order. Raises UsageError."""
    return _parse(path, _read_text(path)).sections()


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot read the configuration file: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: not a configuration file: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a configuration file: byte {error.start} is not UTF-8") from None


def _parse(path: Path, text: str) -> configparser.ConfigParser:
    parser = _parser(None)
    try:
        parser.read_string(text, str(path))
    except configparser.MissingSectionHeaderError as error:
        reason = f"line {error.lineno}: expected a [section] before the first key"
        raise UsageError(f"{path}: {reason}") from None
    except configparser.DuplicateSectionError as error:
        raise UsageError(
            f"{path}: line {error.lineno}: section [{_shown(error.section)}] stands twice"
        ) from None
    except configparser.DuplicateOptionError as error:
        reason = f"line {error.lineno}: [{_shown(error.section)}] {_shown(error.option)} stands twice"
        raise UsageError(f"{path}: {reason}") from None
    except configparser.ParsingError as error:
        raise UsageError(f"{path}: line {error.errors[0][0]}: expected key = value") from None
    return parser


def _parser(interpolation: configparser.Interpolation | None) -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=interpolation, default_section="")


def _interpolated(path: Path, text: str, defaults: str) -> dict[str, str]:
    merged = _parser(configparser.ExtendedInterpolation())
    merged.read_string(defaults)
    _refuse_unknown(path, _parse(path, text), merged)
    merged.read_string(text, str(path))
    values = {}
    for section in merged.sections():
        for key in merged.options(section):
            values[f"{section}.{key}"] = _value(path, merged, section, key)
    return values


def _refuse_unknown(path: Path, given: configparser.ConfigParser, known: configparser.ConfigParser) -> None:
    for section in given.sections():
        if not known.has_section(section):
            names = ", ".join(f"[{name}]" for name in known.sections())
            raise UsageError(f"{path}: unknown section [{_shown(section)}] (expected one of {names})")
        for key in given.options(section):
            if not known.has_option(section, key):
                names = ", ".join(known.options(section))
                raise UsageError(f"{path}: [{section}] {_shown(key)}: unknown key (expected one of {names})")


def _shown(name: str) -> str:
    """A name out of the file, fit for one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:80])


def _value(path: Path, merged: configparser.ConfigParser, section: str, key: str) -> str:
    try:
        return merged.get(section, key).strip()
    except configparser.InterpolationError:
        raw = merged.get(section, key, raw=True)
        expected = "${key} or ${section:key} of a setting that exists ($$NAME for an environment variable)"
        raise value_error(path, f"{section}.{key}", expected, repr(raw)) from None


def _one_line(
    path: Path, model: type[Settings], values: dict[str, str], error: ValidationError
) -> UsageError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    expected = next((f.description for f in model.model_fields.values() if f.alias == name), first["msg"])
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    detail = f" ({first['msg'].removeprefix('Value error, ')})" if first["type"] == "value_error" else ""
    return value_error(path, name, str(expected), f"{values[name]!r}{detail}{more}")


def _to_path(value: object, info: ValidationInfo) -> Path:
    """An absolute path; a relative one counts from the configuration file's folder."""
    text = os.path.expandvars(os.path.expanduser(str(value)))
    if not text:
        raise ValueError("empty")
    if "\0" in text:
        raise ValueError("holds a zero byte")
    if left := _VARIABLE_LEFT.search(text):
        raise ValueError(f"the environment variable {left.group(1)} is not set")
    return Path(os.path.normpath(Path(info.context["folder"] if info.context else ".") / text))


def _to_path_or_none(value: object, info: ValidationInfo) -> Path | None:
    return _to_path(value, info) if value else None


def _to_control(value: object, info: ValidationInfo) -> Path | Address | None:
    """A path, told by its slash, or an address."""
    text = str(value)
    return (_to_path(text, info) if "/" in text else _to_address(text)) if text else None


def _to_address(value: object) -> Address:
    try:
        return parse_address(str(value))
    except UsageError as error:
        raise ValueError(error.reason) from None


def _to_lines(value: object) -> tuple[str, ...]:
    lines = (line.strip() for line in str(value).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


FilePath = Annotated[Path, PlainValidator(_to_path)]
"""A path, absolute after loading."""
OptionalFilePath = Annotated[Path | None, PlainValidator(_to_path_or_none)]
"""A path, or None where the value is empty."""
SocketAddress = Annotated[Address, PlainValidator(_to_address)]
"""`host:port` or `[IPv6]:port`."""
OptionalControl = Annotated[Path | Address | None, PlainValidator(_to_control)]
"""The path of a control socket, with a slash in it, or `host:port`; None where the value is empty."""
Lines = Annotated[tuple[str, ...], PlainValidator(_to_lines)]
"""Lines of a multi-line value without blank ones and comments."""
