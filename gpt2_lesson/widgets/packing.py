"""Encoding of numbers as text in a page: compact, and never read as a script."""

import base64
import gzip
import json
import re
from typing import Any

import numpy as np


def pack(values: np.ndarray) -> str:
    """Return an array's bytes (little-endian), gzipped, as base64 text.

    core.js unpacks it. The same values give the same text.
    """
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return base64.b64encode(gzip.compress(values.tobytes(), 9, mtime=0)).decode()


def pack_fractions(values: np.ndarray) -> str:
    """Return numbers in 0..1, packed in 16 bits: at most 7.7e-6 off.

    unpackShares in core.js unpacks them.
    """
    return pack(np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16))


def pack_triangles(
    weights: np.ndarray, exact: bool, levels: int = 255
) -> dict[str, Any]:
    """Return the lower triangles of (N, T, T) weights in 0..1, rows one after another.

    Exact: 16 bits, linear, at most 7.7e-6 off. Otherwise `levels` steps of the square
    root, up to 255: at most sqrt(weight) / levels off, so 3.9e-3 or less; fewer levels
    take less room.
    """
    size = weights.shape[-1]
    rows, columns = np.tril_indices(size)
    kept = weights[:, rows, columns]
    if exact:
        return {"code": "u16", "data": pack_fractions(kept)}
    coded = np.rint(np.sqrt(np.clip(kept, 0, 1)) * levels).astype(np.uint8)
    return {"code": "u8sqrt", "levels": levels, "data": pack(coded)}


def unpack_triangles(packed: dict[str, Any], count: int, size: int) -> np.ndarray:
    """Return the (count, size, size) weights that `pack_triangles` packed."""
    raw = gzip.decompress(base64.b64decode(packed["data"]))
    if packed["code"] == "u16":
        kept = np.frombuffer(raw, "<u2") / 65535
    else:
        kept = (np.frombuffer(raw, np.uint8) / packed.get("levels", 255)) ** 2
    weights = np.zeros((count, size, size))
    rows, columns = np.tril_indices(size)
    weights[:, rows, columns] = kept.reshape(count, -1)
    return weights


def as_json(value: Any) -> str:
    """Return JSON that can stand inside a script element, whatever its texts hold.

    Half a character (a lone surrogate), which UTF-8 lacks, is written as its code.
    Raises ValueError for NaN and infinity, which JSON does not know.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub(
        "[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text
    )
