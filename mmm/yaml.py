"""YAML as recipes and cards use it: one document, plain values, every key once, every fault with its file and line.

Plain words are read by the core schema of YAML 1.2 (section 10.3): ``1e-3`` is a float, ``no`` and ``2024-01-01`` are text,
``010`` is ten. No tags, no anchors, no merges: what stands in the file is what is meant, at the place where it stands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from mmm.core.errors import BadRecipe

LARGEST = 1_000_000
"""Bytes of the largest file that is read."""

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
_INT = re.compile(r"[-+]?[0-9]+$|0o[0-7]+$|0x[0-9a-fA-F]+$")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"(~|null|Null|NULL|)$")


def load(path: Path | str) -> dict[str, Any]:
    """The mapping in a file.

    Raises:
        BadRecipe: the file is missing, too large, not UTF-8, not YAML, not a mapping, or names a key twice.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise BadRecipe(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return loads(data.decode(), str(path))
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path}: not UTF-8 text (byte {error.start})") from None


def loads(text: str, where: str) -> dict[str, Any]:
    """The mapping in a text.

    Args:
        text: one YAML document.
        where: what the text is called in errors, its file as a rule.

    Raises:
        BadRecipe: see ``load``.
    """
    if len(text) > LARGEST:
        raise BadRecipe(f"{where}: more than {LARGEST:,} characters; a recipe or a card is far smaller")
    loader = None
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadRecipe(f"{where}, line {mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise BadRecipe(f"{where}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise BadRecipe(f"{where}: nested too deeply to be read") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise BadRecipe(f"{where}: expected `key: value` lines, found {found}")
    return value


def dump(value: Any) -> str:
    """The text of plain values, keys in their own order; ``loads`` gives the same values back, floats to the last bit."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def _fault(problem: str, node: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str | None, list[tuple[str, re.Pattern[str]]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "anchor", None):
            raise _fault("anchors (&) and aliases (*) are not read; write the value where it is used", event)
        if getattr(event, "tag", None):
            raise _fault(f"the tag {event.tag!r} is not read; only plain values are", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, int] = {}
        for node_of_key, _ in node.value:
            if not isinstance(node_of_key, yaml.ScalarNode):
                raise _fault("a key must be a word or a number", node_of_key)
            key = self.construct_object(node_of_key)
            if key in first:
                raise _fault(f"the key {key!r} stands here and on line {first[key]}; keep one", node_of_key)
            first[key] = node_of_key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """An integer or a float of the core schema."""
        text = node.value.lower()
        try:
            if node.tag.endswith(":float"):
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        except ValueError:
            raise _fault(f"{text[:40]!r} is not a number that can be read", node) from None


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader, of YAML 1.1 or 1.2, could take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _start in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _start)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.number)
