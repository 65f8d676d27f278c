"""Writes TOML as a person would: tables in order, short arrays on one line."""

from __future__ import annotations

import json

import numpy as np


def number(value: float) -> str:
    """Shortest text that reads back as the same number."""
    if isinstance(value, (np.floating, float)):
        text = repr(float(value))
        return text if any(c in text for c in ".en") else text + ".0"
    return str(int(value))


def inline(value) -> str:
    """A value on one line."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(inline(item) for item in value) + "]"
        if len(text) <= 140 or not isinstance(value[0], (str, float)):
            return text
        lines, line = [], ""
        for item in value:
            piece = inline(item) + ","
            if len(line) + len(piece) > 120:
                lines.append(line.rstrip())
                line = ""
            line += piece + " "
        return "[\n    " + "\n    ".join([*lines, line.rstrip()]) + "\n]"
    return number(value)


def dumps(content: dict, path: str = "") -> str:
    """A document: plain keys first, then tables and arrays of tables in the given order."""
    plain, tables = [], []
    for key, value in content.items():
        if value is None:
            continue
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict) and not _flat(key):
            tables.append(f"[{name}]\n{dumps(value, name)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict) and not _flat(key):
            tables.extend(f"[[{name}]]\n{dumps(item, name)}" for item in value)
        else:
            plain.append(f"{key} = {inline(value)}\n")
    return "".join(plain) + ("\n" if plain and tables else "") + "\n".join(tables)


def _flat(key: str) -> bool:
    """Tables, and lists of them, that read better on one line."""
    return key in ("when", "resize", "crop", "normalize")
