"""Writes the message types of the server and of both clients from the JSON Schemas beside this file.

    python protocol/generate.py [--check]

`--check` writes nothing and fails where a file is not what would be written.
"""

from __future__ import annotations

import json
import keyword
import sys
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHEMAS = HERE / "schemas"
PYTHON_TARGETS = (
    HERE.parent / "server" / "messages.py",
    HERE.parent / "clients" / "python" / "src" / "amira_client" / "messages.py",
)
TYPESCRIPT_TARGET = HERE.parent / "clients" / "typescript" / "src" / "messages.ts"
CLIENT = ("start", "flush", "finish")
SERVER = ("ready", "partial", "final", "error", "closing")
HTTP = ("transcript", "problem")
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_PLAIN_TYPESCRIPT = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "minLength": "min_length",
    "maxLength": "max_length",
    "maxItems": "max_length",
    "maxProperties": "max_length",
}
_CHECKED = ("type", "const", "enum", "minimum", "maximum", "required")
"""Keywords of a schema that a client checks in what it receives."""

Schema = dict[str, Any]


def load(name: str) -> Schema:
    """The schema of one message."""
    schema: Schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    return schema


def python_module() -> str:
    """The text of the Python module: one frozen msgspec struct a message."""
    nested: dict[str, str] = {}
    classes = [_struct(load(name), nested) for name in (*CLIENT, *SERVER, *HTTP)]
    unions = [
        f"{title} = {' | '.join(load(name)['title'] for name in names)}"
        for title, names in (("ClientMessage", CLIENT), ("ServerMessage", SERVER))
    ]
    head = (
        '"""The messages of the protocol, version 1.\n\n'
        'Generated from protocol/schemas by protocol/generate.py: change it there.\n"""\n\n'
        "from typing import Annotated, Literal\n\nfrom msgspec import Meta, Struct, field\n"
    )
    return head + "\n\n" + "\n\n\n".join([*nested.values(), *classes]) + "\n\n\n" + "\n".join(unions) + "\n"


def _struct(schema: Schema, nested: dict[str, str]) -> str:
    properties: dict[str, Schema] = dict(schema["properties"])
    options = ["frozen=True", "kw_only=True"]
    if "type" in properties:
        tag = properties.pop("type")["const"]
        options += ['tag_field="type"', f'tag="{tag}"']
    if schema.get("additionalProperties") is False:
        options.append("forbid_unknown_fields=True")
    required = set(schema["required"])
    lines = [f"class {schema['title']}(Struct, {', '.join(options)}):"]
    lines.append(_docstring(schema.get("description", f"A {schema['title'].lower()}.")))
    ordered = sorted(properties, key=lambda name: name not in required)  # stable: required ones first
    for name in ordered:
        if keyword.iskeyword(name):
            raise ValueError(f"property '{name}' of {schema['title']} is a Python keyword; rename it")
        lines.append(_field(name, properties[name], name in required, nested))
    if not ordered:
        lines.pop()
        lines.append(_docstring(schema["description"]).rstrip())
    return "\n".join(lines)


def _docstring(text: str, indent: str = "    ") -> str:
    one = f'{indent}"""{text}"""'
    if len(one) <= 120:
        return one + "\n"
    first, _, rest = text.partition(". ")
    body = textwrap.fill(rest, 116, initial_indent=indent, subsequent_indent=indent)
    return f'{indent}"""{first}.\n\n{body}\n{indent}"""\n'


def _field(name: str, schema: Schema, required: bool, nested: dict[str, str]) -> str:
    line = f"    {name}: {_type(schema, nested)}"
    if not required:
        default = schema["default"]
        empty = {"[]": "list", "{}": "dict"}.get(json.dumps(default))
        line += f" = field(default_factory={empty})" if empty else f" = {default!r}"
    text = schema.get("description")
    return line + (f"\n{_wrapped(text)}" if text else "")


def _wrapped(text: str) -> str:
    one = f'    """{text}"""'
    if len(one) <= 119:
        return one
    return '    """' + textwrap.fill(text, 110, subsequent_indent="    ") + '"""'


def _type(schema: Schema, nested: dict[str, str]) -> str:
    if "enum" in schema:
        return f"Literal[{', '.join(json.dumps(value) for value in schema['enum'])}]"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if kinds == ["object"] and "properties" in schema:
        nested.setdefault(schema["title"], _struct(schema, nested))
        return str(schema["title"])
    found = " | ".join(_one_type(kind, schema, nested) for kind in kinds if kind != "null")
    limits = [f"{_LIMITS[key]}={schema[key]}" for key in _LIMITS if key in schema]
    if limits:
        found = f"Annotated[{found}, Meta({', '.join(limits)})]"
    return f"{found} | None" if "null" in kinds else found


def _one_type(kind: str, schema: Schema, nested: dict[str, str]) -> str:
    if kind == "array":
        return f"list[{_type(schema['items'], nested)}]"
    if kind == "object":
        return f"dict[str, {_type(schema['additionalProperties'], nested)}]"
    return _PLAIN[kind]


def typescript_module() -> str:
    """The text of the TypeScript module: an interface a message, and what the client checks of those it receives."""
    nested: dict[str, str] = {}
    interfaces = [_interface(load(name), nested) for name in (*CLIENT, *SERVER, *HTTP)]
    unions = [
        f"export type {title} = {' | '.join(load(name)['title'] for name in names)};"
        for title, names in (("ClientMessage", CLIENT), ("ServerMessage", SERVER))
    ]
    shapes = json.dumps({name: _shape(load(name)) for name in SERVER}, indent=2)
    head = (
        "// The messages of the protocol, version 1.\n"
        "// Generated from protocol/schemas by protocol/generate.py: change it there.\n"
    )
    checked = "/** The schemas of what a server sends, without their texts. */\n"
    checked += f"export const SERVER_SHAPES = {shapes} as const;"
    return "\n\n".join([head.rstrip(), *nested.values(), *interfaces, *unions, checked]) + "\n"


def _interface(schema: Schema, nested: dict[str, str]) -> str:
    lines = [f"/** {schema.get('description', 'A ' + schema['title'].lower() + '.')} */"]
    lines.append(f"export interface {schema['title']} {{")
    required = set(schema["required"])
    for name, inner in schema["properties"].items():
        if "description" in inner:
            default = f" Default: `{json.dumps(inner['default'])}`." if "default" in inner else ""
            lines.append(f"  /** {inner['description']}{default} */")
        lines.append(f"  readonly {name}{'' if name in required else '?'}: {_typescript_type(inner, nested)};")
    return "\n".join([*lines, "}"])


def _typescript_type(schema: Schema, nested: dict[str, str]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " | ".join(_one_typescript_type(kind, schema, nested) for kind in kinds)


def _one_typescript_type(kind: str, schema: Schema, nested: dict[str, str]) -> str:
    if kind == "array":
        item = _typescript_type(schema["items"], nested)
        return f"readonly ({item})[]" if " " in item else f"readonly {item}[]"
    if kind == "object" and "properties" in schema:
        nested.setdefault(schema["title"], _interface(schema, nested))
        return str(schema["title"])
    if kind == "object":
        return f"{{ readonly [name: string]: {_typescript_type(schema['additionalProperties'], nested)} }}"
    return _PLAIN_TYPESCRIPT[kind]


def _shape(schema: Schema) -> Schema:
    """A schema without what only people read."""
    kept = {key: value for key, value in schema.items() if key in _CHECKED}
    if "properties" in schema:
        kept["properties"] = {name: _shape(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _shape(schema["items"])
    return kept


def _ruff_formatted(text: str) -> str:
    import subprocess

    return subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", "messages.py", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent,
    ).stdout


def main(arguments: list[str]) -> int:
    """Write or check every target."""
    wanted = dict.fromkeys(PYTHON_TARGETS, _ruff_formatted(python_module()))
    wanted[TYPESCRIPT_TARGET] = typescript_module()
    stale = [path for path in wanted if not path.is_file() or path.read_text("utf-8") != wanted[path]]
    if "--check" in arguments:
        for path in stale:
            print(f"{path} is not what protocol/generate.py writes; run it", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], "utf-8")
        print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
