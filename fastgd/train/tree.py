"""Nested Python values <-> JSON plus a flat dictionary of arrays.

State that is saved (optimizers, positions, anything given to ``fastgd.save``) is nested dictionaries and lists with
arrays at the leaves. The arrays are taken out under the names of their paths, joined by dots, so that a flat
dictionary of arrays keeps its names; the rest becomes JSON that every parser accepts. What JSON cannot say is
written as an object with one key that begins with ``$``:

    {"$array": name}  {"$tensor": name}  {"$tuple": [...]}  {"$float": "nan"}  {"$dict": [[key, value], ...]}

Decoding builds only these types; nothing in a file can name code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["decode", "encode"]

RESERVED = "__metadata__"  # the one name that a safetensors file keeps for itself
KEY_TYPES = (str, int, float, bool, type(None))


def encode(value: Any, arrays: dict[str, Any], path: tuple[str, ...] = ()) -> Any:
    """Return `value` as JSON, and add its arrays and tensors to `arrays`.

    Raises
    ------
    TypeError
        Something is neither a container, a number, text, None, an array nor a tensor; names its path.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return encode(value.item(), arrays, path)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        return {"$array": _store(value, arrays, path)}
    if hasattr(value, "__array__"):
        return {"$tensor": _store(value, arrays, path)}
    if isinstance(value, Mapping):
        return _encode_mapping(value, arrays, path)
    if isinstance(value, (list, tuple)):
        items = [encode(item, arrays, (*path, str(index))) for index, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    raise TypeError(f"cannot save {'.'.join(path) or 'this'}: a value of type {type(value).__name__}")


def decode(value: Any, arrays: Mapping[str, np.ndarray], tensor: Callable[[str], Any]) -> Any:
    """Return what :func:`encode` was given; `tensor` makes the tensor that was stored under a name.

    Raises
    ------
    ValueError
        The JSON was not made by :func:`encode`, or refers to an array that is not there.
    """
    if isinstance(value, list):
        return [decode(item, arrays, tensor) for item in value]
    if not isinstance(value, dict):
        return value
    tag, content = next(iter(value.items())) if len(value) == 1 else ("", None)
    if not tag.startswith("$"):
        return {key: decode(item, arrays, tensor) for key, item in value.items()}
    if tag in ("$array", "$tensor") and isinstance(content, str):
        if content not in arrays:
            raise ValueError(f"array {content!r} is missing")
        return arrays[content] if tag == "$array" else tensor(content)
    if tag == "$tuple" and isinstance(content, list):
        return tuple(decode(item, arrays, tensor) for item in content)
    if tag == "$float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if tag == "$dict" and isinstance(content, list):
        return dict(_decode_pair(pair, arrays, tensor) for pair in content)
    raise ValueError(f"{tag!r} is not understood")


def _encode_mapping(value: Mapping, arrays: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in value:
        if not isinstance(key, KEY_TYPES):
            raise TypeError(f"cannot save {'.'.join(path) or 'this'}: a key of type {type(key).__name__}")
    pairs = [(key, encode(item, arrays, (*path, str(key)))) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
        return dict(pairs)
    return {"$dict": [[encode(key, arrays), item] for key, item in pairs]}


def _decode_pair(pair: Any, arrays: Mapping[str, np.ndarray], tensor: Callable) -> tuple[Any, Any]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("'$dict' is not understood")
    key = decode(pair[0], arrays, tensor)
    if not isinstance(key, KEY_TYPES):
        raise ValueError("'$dict' is not understood")
    return key, decode(pair[1], arrays, tensor)


def _store(array: Any, arrays: dict[str, Any], path: tuple[str, ...]) -> str:
    name = base = ".".join(path) or "value"
    serial = 1
    while name in arrays or name == RESERVED:
        serial += 1
        name = f"{base}#{serial}"
    arrays[name] = array
    return name
