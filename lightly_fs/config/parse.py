"""From `key=value` words and YAML files to `RunConfig`; every mistake names the key and the fix."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lightly_fs.config import legacy
from lightly_fs.config.run import RunConfig
from lightly_fs.config.selection import parse_selection
from lightly_fs.errors import ConfigError

_NOTHING = ("", "~", "null")
_ALIKE = 0.75
"""How near (1: the same) a key must be to be suggested: `metod` is, `nonsense` is near nothing."""
SELECTION = "selection_config"
"""A key whose value is a tree of its own, or the file that holds it."""

SWITCHES = ("sanity_check",)
"""Keys that choose a command instead of configuring a run; the CLI handles them."""


class _Yaml(yaml.SafeLoader):
    """YAML whose only booleans are true and false: `properties: off` is a word, as in YAML 1.2.

    A key that a mapping holds twice is an error, not the last value.
    """

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - as PyYAML calls it
    ) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise yaml.YAMLError(f"it sets `{key}` twice")
        return super().construct_mapping(node, deep)


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FAILURES = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
"""What PyYAML raises: a tag that does not fit its value has no error of its own."""
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_config(words: Sequence[str] = (), *, file: Path | None = None) -> RunConfig:
    """Return the configuration of `file` with `words` (`key=value`) laid over it.

    Raises:
        ConfigError: An unknown key, a value out of range, or a key that needs another version.
    """
    flat: dict[str, Any] = {}
    if file is not None:
        flat.update(_read_file(file))
    for word in words:
        key, value = split_word(word)
        flat[key] = value
    if flat.get(SELECTION) is not None:
        flat[SELECTION] = _selection(flat[SELECTION], flat.get("shared_dir"))
    return _validate(flat)


def _selection(given: object, shared_dir: object) -> object:
    """Return the selection's configuration, that of its file when a path is given."""
    if not isinstance(given, str):
        return parse_selection(given)
    below = Path(str(shared_dir or RunConfig.model_fields["shared_dir"].default))
    places = [Path(given), below / given]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ConfigError(
            f"`{SELECTION}={given}`: there is no such file, neither here nor in {below}",
            hint="give a YAML or JSON file, or the values: selection_config='{n_samples: 10, …}'",
        )
    content = _read_tree(file)
    if isinstance(content, dict) and set(content) == {SELECTION}:
        content = content[SELECTION]
    return parse_selection(content, f"{file}: ")


def split_word(word: str) -> tuple[str, Any]:
    """Return key and value of `key=value`; values are YAML scalars and lists.

    The value of a key that is text (a path, a name) stands as it is, unless it is quoted.
    """
    key, equals, text = word.partition("=")
    key = key.strip().lstrip("+")
    if not equals or not key:
        raise ConfigError(f"`{word}` is not of the form key=value", hint="e.g. method=coreset")
    if _is_text_key(key) and text[:1] not in ("'", '"') and text not in _NOTHING:
        return key, text
    try:
        return key, yaml.load(text, _Yaml) if text else ""  # noqa: S506 - a safe loader
    except _FAILURES as error:
        raise ConfigError(f"the value of `{key}` is not valid YAML: `{text}`") from error


def known_keys() -> list[str]:
    """Return every accepted key in dotted form, sorted."""
    return sorted({*_model_keys(RunConfig), *legacy.HARMLESS, *legacy.IGNORED, *SWITCHES})


def known_values(key: str) -> list[str]:
    """Return the values of a key that has few: choices and booleans."""
    annotation = _annotation(key)
    if annotation is bool:
        return ["True", "False"]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [one.value for one in annotation]
    return [str(one) for one in get_args(annotation) if isinstance(one, str)]


def describe_keys() -> Iterator[tuple[str, str, str]]:
    """Yield key, default and meaning of every key of a run."""
    defaults = dict(_flatten(RunConfig().model_dump(mode="json")))
    for key in _model_keys(RunConfig):
        yield key, str(defaults[key]), _describe(key) or ""


def _field(key: str) -> FieldInfo | None:
    model: type[BaseModel] = RunConfig
    for part in key.split("."):
        info = model.model_fields.get(part)
        if info is None:
            return None
        if not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return info
        model = info.annotation
    return None


def _annotation(key: str) -> Any:  # noqa: ANN401 - a type or a typing form
    info = _field(key)
    return info.annotation if info else None


def _describe(key: str) -> str | None:
    info = _field(key)
    return info.description if info else None


def _model_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _model_keys(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _is_text_key(key: str) -> bool:
    return _annotation(key) in (str, str | None)


def _read_tree(file: Path) -> Any:  # noqa: ANN401 - any YAML value
    """Return what a YAML or JSON file holds.

    JSON is read as such: PyYAML takes seconds for a megabyte.
    """
    text = _read_text(file)
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_unique, parse_constant=str)
        except (ValueError, RecursionError):
            pass  # YAML may be in braces, too
        except yaml.YAMLError as error:
            raise ConfigError(f"`{file}` is not valid YAML: {error}") from error
    return _parse(text, file)[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise yaml.YAMLError(f"it sets `{twice}` twice")
    return tree


def _parse(text: str, file: Path) -> tuple[Any, Any]:
    """Return what YAML says, and the same with every scalar as it is written."""
    try:
        loader = _Yaml(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        # The texts first: the loader puts the values of merge keys (`<<`) into the nodes.
        literal = yaml.constructor.BaseConstructor().construct_document(node)
        return loader.construct_document(node), literal
    except _FAILURES as error:
        raise ConfigError(f"`{file}` is not valid YAML: {error}") from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration `{file}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{file}` is not valid YAML: {error}") from error


def _read_file(file: Path) -> dict[str, Any]:
    content, literal = _parse(_read_text(file), file)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"`{file}` must hold keys and values, not a {type(content).__name__}")
    try:
        flat, texts = list(_flatten(content)), list(_flatten(literal))
    except _FAILURES as error:
        raise ConfigError(f"`{file}` is not valid YAML: {error}") from error
    values = dict(flat)
    if len(values) < len(flat):
        twice = Counter(key for key, _ in flat).most_common(1)[0][0]
        raise ConfigError(f"`{file}` sets `{twice}` twice", hint="keep one of them")
    # Names like `2026-11-20` or `007` stay text where text is expected.
    scalars = {key: text for key, text in texts if isinstance(text, str) and _is_text_key(key)}
    return values | {key: scalars[key] for key in scalars if values[key] is not None}


def _flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name != SELECTION:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _validate(flat: Mapping[str, Any]) -> RunConfig:
    ours = set(_model_keys(RunConfig))
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        if key in ours:
            _plant(tree, key, value)
        elif key not in SWITCHES:
            _check_legacy(key, value)
        elif value is not False:
            raise ConfigError(
                f"`{key}={value}` is no key of a run", hint=f"lightly-fs {key.replace('_', '-')}"
            )
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise _config_error(error, flat) from error


def _plant(tree: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 - any YAML value
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def _check_legacy(key: str, value: object) -> None:
    try:
        reason = legacy.refuse_reason(key, value)
    except KeyError:
        raise _unknown(key) from None
    if reason is not None:
        raise ConfigError(f"`{key}={value}`: `{key}` {reason}", hint=f"leave `{key}` out")


def _unknown(key: str) -> ConfigError:
    near = _nearest(key)
    hint = f"did you mean `{near}`?" if near else "`lightly-fs run --help-keys` lists all keys"
    return ConfigError(f"unknown key `{key}`", hint=hint)


def _nearest(key: str) -> str | None:
    """Return the run's key that is alike, as a whole or in what follows its dot, if one is."""
    known = [*_model_keys(RunConfig), *SWITCHES]
    for name in known:
        if name.endswith(f".{key}") or name.startswith(f"{key}."):
            return name
    leaves = {name.rpartition(".")[2]: name for name in reversed(known)}
    whole = difflib.get_close_matches(key, known, n=1, cutoff=_ALIKE)
    leaf = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=_ALIKE)
    return whole[0] if whole else leaves[leaf[0]] if leaf else None


def _config_error(error: ValidationError, flat: Mapping[str, Any]) -> ConfigError:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    key = next(
        (".".join(names[:n]) for n in range(len(names), 0, -1) if ".".join(names[:n]) in flat),
        ".".join(names),
    )
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if key not in flat:
        return ConfigError(message)  # about several keys at once, which it names
    return ConfigError(f"`{key}={flat.get(key)}`: {message}", hint=_describe(key))
