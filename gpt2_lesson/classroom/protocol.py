"""Messages from the sandbox: a JSON header, then the raw bytes of the tensors.

Reading a message cannot run code. A message that breaks the rules raises ProtocolError:
it is sent by a student's process, and every byte of it may be forged.
"""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAGIC = b"GL1\n"
HEAD = struct.Struct(">4sIQ")  # the magic, bytes of the header, of the body
DTYPES = {
    str(dtype)[6:]: dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
MOST_HEADER = 2_000_000  # bytes
MOST_BODY = 64_000_000  # bytes
MOST_ELEMENTS = 4_000_000  # of one tensor
MOST_AXES, MOST_SIZE = 16, 10_000_000
MOST_DEPTH, MOST_PARTS, MOST_TEXT, MOST_DIGITS = 12, 200_000, 100_000, 400


class ProtocolError(ValueError):
    """The bytes are not a valid message."""


class Other:
    """A value that is not plain data, represented by the name of its class."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# ------------------------------------------------------------------ in the sandbox


def pack(message: dict[str, Any]) -> bytes:
    """Return a message, a dict of plain data, as bytes.

    Any other value becomes the name of its class.
    """
    blocks: list[bytes] = []
    header = json.dumps(
        {key: _encode(value, blocks, 0) for key, value in message.items()}
    ).encode()
    body = b"".join(blocks)
    if len(header) > MOST_HEADER or len(body) > MOST_BODY:
        raise ProtocolError(
            f"{len(header) + len(body):,} bytes came back: too much to look at"
        )
    return HEAD.pack(MAGIC, len(header), len(body)) + header + body


def _encode(value: Any, blocks: list[bytes], depth: int) -> Any:
    """Return `value` as JSON: atoms as they are, the rest as [tag, ...]."""
    if depth > MOST_DEPTH:
        raise ProtocolError(f"more than {MOST_DEPTH} containers in one another")
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int and abs(value) < 10**MOST_DIGITS:
        return value
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        return _encode_tensor(value, blocks)
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        return _encode_numpy(value, blocks)
    if value is ...:
        return ["ellipsis"]
    if isinstance(value, bytes):
        return ["bytes", value.decode("latin-1")]
    for tag, kind in (("list", list), ("tuple", tuple), ("set", (set, frozenset))):
        if isinstance(value, kind):
            return [tag, *(_encode(part, blocks, depth + 1) for part in value)]
    if isinstance(value, dict):
        return [
            "dict",
            *(
                [_encode(key, blocks, depth + 1), _encode(part, blocks, depth + 1)]
                for key, part in value.items()
            ),
        ]
    return ["other", str(type(value).__name__)[:60]]


def _encode_numpy(value: Any, blocks: list[bytes]) -> Any:
    """Return an array as a tensor, a scalar as a number."""
    if not value.shape and value.dtype.kind in "biufU":
        return value.item()
    try:
        return _encode_tensor(torch.as_tensor(value), blocks)
    except (TypeError, ValueError):
        return ["other", "ndarray"]


def _encode_tensor(value: Tensor, blocks: list[bytes]) -> list:
    name = str(value.dtype)[6:]
    if name not in DTYPES or value.is_sparse or value.device.type != "cpu":
        return ["other", f"Tensor of {name}"]
    if value.numel() > MOST_ELEMENTS:
        raise ProtocolError(f"a tensor of {value.numel():,} elements came back")
    plain = value.detach().as_subclass(Tensor).contiguous().reshape(-1)
    blocks.append(plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return ["tensor", name, list(value.shape)]


# ------------------------------------------------------------------ outside


class Reader:
    """Split the bytes into messages; keep only an incomplete one."""

    def __init__(self, most: int = 4 * MOST_BODY) -> None:
        self.buffer, self.left = bytearray(), most

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that `data` completes. Raises ProtocolError."""
        self.left -= len(data)
        if self.left < 0:
            raise ProtocolError("too many bytes came back")
        self.buffer += data
        messages = []
        while (size := self._size()) is not None and len(self.buffer) >= size:
            messages.append(unpack(bytes(self.buffer[:size])))
            del self.buffer[:size]
        return messages

    def _size(self) -> int | None:
        """Return the bytes of the message that the buffer begins with, if known."""
        if len(self.buffer) < HEAD.size:
            if not MAGIC.startswith(bytes(self.buffer[:4])):
                raise ProtocolError("no message of ours")
            return None
        magic, header, body = HEAD.unpack_from(self.buffer)
        if magic != MAGIC or header > MOST_HEADER or body > MOST_BODY:
            raise ProtocolError("no message of ours, or one too large")
        return HEAD.size + header + body


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message in `data`, a whole one. Raises ProtocolError."""
    _, header_bytes, _ = HEAD.unpack_from(data)
    start = HEAD.size + header_bytes
    try:
        header = json.loads(data[HEAD.size : start], parse_int=_integer)
    except (ValueError, RecursionError):
        raise ProtocolError("the header is not JSON") from None
    if not isinstance(header, dict) or len(header) > 20:
        raise ProtocolError("the header is no dict")
    decoder = _Decoder(memoryview(data)[start:])
    message = {_text(key): decoder.value(value, 0) for key, value in header.items()}
    if decoder.at != len(decoder.body):
        raise ProtocolError("bytes are left over")
    return message


class _Decoder:
    """Turn a header's values into Python's, taking the tensors' bytes in order."""

    def __init__(self, body: memoryview) -> None:
        self.body, self.at, self.parts = body, 0, 0

    def value(self, value: Any, depth: int) -> Any:
        """Return one value. Raises ProtocolError for an invalid one."""
        self.parts += 1
        if depth > MOST_DEPTH + 1 or self.parts > MOST_PARTS:
            raise ProtocolError("too deep, or too many parts")
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return _text(value)
        if not isinstance(value, list) or not value or not isinstance(value[0], str):
            raise ProtocolError("a value without its kind")
        rules: dict[str, Callable[[list, int], Any]] = {
            "list": self._list,
            "tuple": lambda v, d: tuple(self._list(v, d)),
            "set": lambda v, d: _hashed(set, self._list(v, d)),
            "dict": self._dict,
            "ellipsis": lambda v, d: ...,
            "bytes": lambda v, d: self._bytes(v),
            "other": lambda v, d: self._other(v),
            "tensor": lambda v, d: self._tensor(v),
        }
        if value[0] not in rules:
            raise ProtocolError("a value of no known kind")
        return rules[value[0]](value[1:], depth)

    def _list(self, parts: list, depth: int) -> list:
        return [self.value(part, depth + 1) for part in parts]

    def _dict(self, parts: list, depth: int) -> dict:
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in parts):
            raise ProtocolError("a dict without pairs")
        return _hashed(
            dict,
            [
                (self.value(key, depth + 1), self.value(part, depth + 1))
                for key, part in parts
            ],
        )

    def _bytes(self, parts: list) -> bytes:
        if len(parts) != 1 or not isinstance(parts[0], str):
            raise ProtocolError("bytes without text")
        try:
            return parts[0][:MOST_TEXT].encode("latin-1")
        except UnicodeEncodeError:
            raise ProtocolError("bytes beyond 255") from None

    def _other(self, parts: list) -> Other:
        name = _text(parts[0]) if len(parts) == 1 and isinstance(parts[0], str) else ""
        kept = "".join(c for c in name if c.isalnum() or c in "_ .")[:60]
        return type(kept or "object", (Other,), {})()

    def _tensor(self, parts: list) -> Tensor:
        """Return a tensor: the shape is checked before anything is allocated."""
        if len(parts) != 2 or not isinstance(parts[0], str) or parts[0] not in DTYPES:
            raise ProtocolError("a tensor of no known dtype")
        dtype, shape = DTYPES[parts[0]], parts[1]
        if (
            not isinstance(shape, list)
            or len(shape) > MOST_AXES
            or not all(type(size) is int and 0 <= size <= MOST_SIZE for size in shape)
            or math.prod(size or 1 for size in shape) > 2**40
        ):
            raise ProtocolError("a tensor of an impossible shape")
        numel = math.prod(shape)
        size = numel * dtype.itemsize
        if numel > MOST_ELEMENTS or self.at + size > len(self.body):
            raise ProtocolError("a tensor that its bytes do not fill")
        data = bytearray(self.body[self.at : self.at + size])
        self.at += size
        if not numel:
            return torch.empty(shape, dtype=dtype)
        if dtype is torch.bool:  # a byte of 7 is not a valid bool
            return torch.frombuffer(data, dtype=torch.uint8).ne(0).reshape(shape)
        return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _hashed(kind: type, parts: list) -> Any:
    """Return a set or dict of `parts`, whose keys must be atoms or tuples of them."""
    keys = [part[0] for part in parts] if kind is dict else parts
    if not all(
        isinstance(key, str | bytes | bool | int | float | tuple | None) for key in keys
    ):
        raise ProtocolError("a key that is no atom")
    try:
        return kind(parts)
    except TypeError:
        raise ProtocolError("a key that is no atom") from None


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ProtocolError("a number of too many digits")
    return int(digits)


def _text(text: str) -> str:
    """Return text that any file can store: no lone surrogates, limited length."""
    return text[:MOST_TEXT].encode("utf-8", "replace").decode("utf-8")
