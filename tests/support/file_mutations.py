"""Changes of the files that qcomp reads besides models, which know their structure.

Arrays keep a header that numpy could read, archives their members, documents their nesting, and
graphs their lines: so changes reach what is behind the first check. Now and then bytes are wrong.
"""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS: list[Any] = [0, 1, -1, 2, 7, 255, 1 << 31, (1 << 63) - 1, 1 << 64, -(1 << 63), 10**30]
NUMBERS += [0.5, -0.0, 1e38, -1e308, 1e-45, float("inf"), float("nan")]
OTHERS: list[Any] = [None, True, "", "x", "\0", "é" * 40, "../up", [], {}, [0], {"x": 1}, [[[]]]]
DESCRS = ["<f4", "|b1", "<f8", "<i8", "|u1", ">f4", "<f2", "|O", "<U8", "<M8[s]", "<c8", "", "x"]
SHAPES = ["()", "(0,)", "(-1, 4)", "(2**60,)", "(1, 4, 4)", "(True, 4)", "4", "(4.0,)", "('a',)"]
SHAPES += ["(" + "1, " * 70 + ")", "(1 << 40, 1 << 40)", "(3, 4)", "(,)"]


def wrong_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, or the end cut off, or something put in."""
    changed = bytearray(data)
    match rng.randrange(3):
        case 0:
            del changed[rng.randrange(len(changed) + 1) :]
        case 1:
            place = rng.randrange(len(changed) + 1)
            changed[place:place] = rng.randbytes(rng.choice([1, 4, 64]))
        case _:
            for _ in range(rng.choice([1, 2, 8]) if changed else 0):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


# ----------------------------------------------------------------------- arrays


def mutated_npy(data: bytes, rng: random.Random) -> bytes:
    """An array of numpy's format, version 1 to 3, with another header or other content."""
    if rng.random() < 0.2:
        return wrong_bytes(data, rng)
    length = struct.unpack("<H", data[8:10])[0]
    header, content = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    for _ in range(rng.choice([1, 1, 2])):
        match rng.randrange(4):
            case 0:
                header = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(DESCRS)}'", header)
            case 1:
                shape = rng.choice(SHAPES)
                header = re.sub(r"'shape': \([^)]*\)", lambda _, s=shape: f"'shape': {s}", header)
            case 2:
                header = header.replace("False", rng.choice(["True", "0", "None", "[]"]))
            case _:
                content = content[: rng.randrange(len(content) + 1)]
    version = rng.choice([1, 1, 1, 2, 3, 9])
    size = struct.pack("<H" if version == 1 else "<I", len(header) + rng.choice([0, 0, 0, 1, -1]))
    return data[:6] + bytes([version, 0]) + size + header.encode("latin1") + content


def mutated_npz(data: bytes, rng: random.Random) -> bytes:
    """An archive with other members: their names, number, compression and arrays."""
    if rng.random() < 0.2:
        return wrong_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.randrange(len(members)) if members else 0
        match rng.randrange(4):
            case 0 if members:
                del members[place]
            case 1 if members:
                members.append((members[place][0] + rng.choice(["", "x", ".npy"]), b""))
            case 2 if members:
                name = rng.choice(["labels.npy", "x", "", "../x.npy", "x.npy" * 40, "é.npy"])
                members[place] = name, members[place][1]
            case _ if members:
                name, content = members[place]
                changed = mutated_npy(content, rng) if len(content) > 10 else content
                members[place] = name, changed
            case _:
                pass
    made = io.BytesIO()
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
    with zipfile.ZipFile(made, "w", rng.choice(kinds)) as archive:
        for name, content in dict(members).items():
            archive.writestr(name or "empty", content)
    return made.getvalue()


# -------------------------------------------------------------------- documents


def mutated_document(document: Any, rng: random.Random) -> Any:
    """A copy of nested mappings, lists and values with one to four changes somewhere."""
    copy = _copied(document)
    for _ in range(rng.choice([1, 1, 2, 4])):
        holder, key = rng.choice(_places(copy))
        match rng.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(["x", "", "version", str(key) + "x"])] = holder[key]
            case 1:
                holder.append(holder[key])
            case _:
                holder[key] = _other(holder[key], rng)
        if not _places(copy):
            break
    return copy


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(v) for key, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder with a key of something that it holds."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, held in list(inside):
        found.append((value, key))
        if isinstance(held, dict | list):
            found += _places(held)
    return found


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return rng.choice([True, False, None, *OTHERS])
    if isinstance(value, int | float):
        near = [value + 1, -value, value * 2, value / 3] if abs(value) < 1e300 else []
        return rng.choice([*NUMBERS, *near, *OTHERS])
    if isinstance(value, str):
        return rng.choice([value + "x", value[:-1], value.upper(), *NUMBERS, *OTHERS])
    return rng.choice([*NUMBERS, *OTHERS])


# ------------------------------------------------------------------------ texts


def mutated_lines(text: str, words: Sequence[str], rng: random.Random) -> str:
    """Lines in another order, twice or gone, and in them other numbers and words."""
    lines = text.splitlines()
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(lines)) if lines else 0
        match rng.randrange(6):
            case 0 if lines:
                del lines[place]
            case 1 if lines:
                lines.insert(rng.randrange(len(lines)), lines[place])
            case 2 if lines:
                other = rng.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
            case _ if lines:
                lines[place] = _other_line(lines[place], words, rng)
            case _:
                pass
    changed = "\n".join(lines) + "\n"
    return changed if rng.random() < 0.9 else changed[: rng.randrange(len(changed))]


def _other_line(line: str, words: Sequence[str], rng: random.Random) -> str:
    """One number, name or mark in it is another."""
    change: Callable[[re.Match[str]], str]
    if rng.random() < 0.5:
        pattern = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
        numbers = [str(n) for n in (*NUMBERS, -3, 5, "1e400", "0x10", "1_0")]
        change = lambda found: rng.choice([*numbers, found[0] + "0"])  # noqa: E731
    else:
        pattern = r"%?[A-Za-z_][\w.]*|[{}()\[\]=,:]"
        change = lambda found: rng.choice([*words, "", "%", found[0] * 2])  # noqa: E731
    found = list(re.finditer(pattern, line))
    if not found:
        return line + rng.choice(["x", " ", "\t{", "\0"])
    one = rng.choice(found)
    return line[: one.start()] + change(one) + line[one.end() :]
