#!/usr/bin/env python3
"""poold's wire, made from nothing but docs/PROTOCOL.md, whose layouts it reads.

    python3 tests/protocol/wire.py tests/fixtures/wire-v1.txt

decodes and encodes every test vector in the file and compares both with what stands there.

A struct is a dict; a variant is its name, or {name: fields} if it has fields; as in the fixture's JSON.
"""

import fcntl
import json
import mmap
import os
import re
import socket
import struct
import sys

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/PROTOCOL.md")

MAGIC = b"poold\0"
CLIENT, WORKER = 1, 2
ACCEPTED = 0
FRAME_BYTES_MAX = 1_048_576
HEAD_BYTES_MAX = 262_144
DESCRIPTORS_MAX = 9

UNSIGNED_BITS = {"u16": 16, "u32": 32, "u64": 64}
SIGNED_BITS = {"i16": 16, "i32": 32}


class WireError(Exception):
    """Bytes that are not in the protocol."""


# The layouts: {name: ("struct", [(field, type)]) or ("enum", {number: (variant, fields)})}, where the
# fields of a variant are None, a type, or [(field, type)].


def split_fields(text):
    return [tuple(part.strip() for part in field.split(":")) for field in re.split(r",\s*(?=\w+:)", text)]


def read_layouts(document):
    layouts, entries = {}, None
    for block in re.findall(r"^```layout\n(.*?)^```", document, re.M | re.S):
        for line in filter(None, (line.split("#")[0].strip() for line in block.splitlines())):
            if start := re.fullmatch(r"(struct|enum) (\w+)", line):
                entries = [] if start[1] == "struct" else {}
                layouts[start[2]] = (start[1], entries)
            elif variant := re.fullmatch(r"(\d+) (\w+)(?:\((.+)\)| \{ (.+) \})?", line):
                number, name, single, fields = variant.groups()
                entries[int(number)] = (name, single or (split_fields(fields) if fields else None))
            else:
                entries.extend(split_fields(line))
    return layouts


with open(DOCUMENT, encoding="utf-8") as document:
    LAYOUTS = read_layouts(document.read())


# Values.


class Reader:
    def __init__(self, data):
        self.data, self.position = data, 0

    def take(self, count):
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise WireError("a value ends too early")
        self.position += count
        return taken

    def varint(self, bits):
        first = self.take(1)[0]
        if first <= 250:
            return first
        count = {251: 2, 252: 4, 253: 8}.get(first)
        if count is None or count * 8 > bits:
            raise WireError(f"{first:#x} does not begin an integer of {bits} bits")
        return int.from_bytes(self.take(count), "little")

    def one_of_two(self):
        byte = self.take(1)[0]
        if byte > 1:
            raise WireError(f"{byte} is neither 0 nor 1")
        return byte == 1


def varint(value):
    if value <= 250:
        return bytes([value])
    for mark, count in ((251, 2), (252, 4), (253, 8)):
        if value < 1 << (8 * count):
            return bytes([mark]) + value.to_bytes(count, "little")
    raise WireError(f"{value} is too large")


def parameters(of):
    """`map<K, V>` as ("map", ["K", "V"]), `u32` as ("u32", [])."""
    name, _, inner = of.partition("<")
    return name, [part.strip() for part in inner[:-1].split(",")] if inner else []


def decode(of, reader):
    name, inner = parameters(of)
    if name == "bool":
        return reader.one_of_two()
    if name in UNSIGNED_BITS:
        return reader.varint(UNSIGNED_BITS[name])
    if name in SIGNED_BITS:
        zigzag = reader.varint(SIGNED_BITS[name])
        return zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
    if name == "string":
        return reader.take(reader.varint(64)).decode("utf-8")
    if name == "option":
        return decode(inner[0], reader) if reader.one_of_two() else None
    if name == "list":
        return [decode(inner[0], reader) for _ in range(reader.varint(64))]
    if name == "map":
        return {decode(inner[0], reader): decode(inner[1], reader) for _ in range(reader.varint(64))}
    kind, entries = LAYOUTS[name]
    if kind == "struct":
        return {field: decode(type_, reader) for field, type_ in entries}
    number = reader.varint(32)
    if number not in entries:
        raise WireError(f"{name} has no variant {number}")
    variant, fields = entries[number]
    if fields is None:
        return variant
    if isinstance(fields, str):
        return {variant: decode(fields, reader)}
    return {variant: {field: decode(type_, reader) for field, type_ in fields}}


def encode(of, value):
    name, inner = parameters(of)
    if name == "bool":
        return bytes([value])
    if name in UNSIGNED_BITS:
        return varint(value)
    if name in SIGNED_BITS:
        return varint(2 * value if value >= 0 else -2 * value - 1)
    if name == "string":
        data = value.encode("utf-8")
        return varint(len(data)) + data
    if name == "option":
        return b"\0" if value is None else b"\1" + encode(inner[0], value)
    if name == "list":
        return varint(len(value)) + b"".join(encode(inner[0], element) for element in value)
    if name == "map":
        pairs = sorted((encode(inner[0], key), encode(inner[1], value[key])) for key in value)
        return varint(len(pairs)) + b"".join(key + value for key, value in pairs)
    kind, entries = LAYOUTS[name]
    if kind == "struct":
        return b"".join(encode(type_, value[field]) for field, type_ in entries)
    wanted, content = (value, None) if isinstance(value, str) else next(iter(value.items()))
    number, fields = next((number, fields) for number, (variant, fields) in entries.items() if variant == wanted)
    if fields is None:
        return varint(number)
    if isinstance(fields, str):
        return varint(number) + encode(fields, content)
    return varint(number) + b"".join(encode(type_, content[field]) for field, type_ in fields)


# Handshakes and frames.


def encode_hello(role, version_min=1, version_max=1):
    return MAGIC + struct.pack("<BBHH", role, 0, version_min, version_max)


def decode_answer(data):
    """The verdict and the version."""
    magic, verdict, zero, version, _ = struct.unpack("<6sBBHH", data)
    if magic != MAGIC or zero != 0:
        raise WireError("not an answer to a hello")
    return verdict, version


def encode_frame(of, value, payload=b""):
    head = encode(of, value)
    return struct.pack("<II", len(head), len(payload)) + head + payload


# Payloads in shared memory.

INLINE_BYTES = 64512
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def payload_head(encoding, payload):
    """What a head says of a payload."""
    content = "Inline" if len(payload) <= INLINE_BYTES else {"Shared": len(payload)}
    return {"encoding": encoding, "content": content, "descriptors": 0}


def said_of_payload(value):
    """What a head says of the payload, if the message can have one."""
    if not isinstance(value, dict):
        return None
    if "content" in value:
        return value
    return next(filter(None, map(said_of_payload, value.values())), None)


def shared_bytes(value):
    """How many bytes are in the memory that comes with a message; none if none does."""
    said = said_of_payload(value)
    return said["content"]["Shared"] if said and said["content"] != "Inline" else None


def open_files(value):
    """How many open files come with a message."""
    said = said_of_payload(value)
    return said["descriptors"] if said else 0


def share(payload):
    """A descriptor of sealed memory that holds the payload."""
    memory = os.memfd_create("payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(memory, "wb", closefd=False) as file:
        file.write(payload)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    return memory


# The payloads of several tasks in one piece.


def join_payloads(payloads):
    return b"".join(struct.pack("<H", len(payload)) + payload for payload in payloads)


def split_payloads(data, count):
    reader, payloads = Reader(data), []
    for _ in range(count):
        (length,) = struct.unpack("<H", reader.take(2))
        payloads.append(reader.take(length))
    if reader.position != len(data):
        raise WireError("bytes behind the last of several payloads")
    return payloads


def said_of_payloads(value):
    """What a head says of the payloads of several tasks, if the message has them."""
    if not isinstance(value, dict):
        return None
    if value.keys() == {"encoding", "count"}:
        return value
    return next(filter(None, map(said_of_payloads, value.values())), None)


def decode_head(of, head):
    reader = Reader(head)
    value = decode(of, reader)
    if reader.position != len(head):
        raise WireError("bytes behind the value in a head")
    return value


class Connection:
    """A socket after its handshake."""

    def __init__(self, stream, role):
        self.socket = stream
        self.descriptors = []
        self.send_bytes(encode_hello(role))
        verdict, self.version = decode_answer(self.receive_bytes(12))
        if verdict != ACCEPTED:
            raise WireError(f"the daemon's verdict on the handshake is {verdict}")

    def send_bytes(self, data):
        self.socket.sendall(data)

    def receive_bytes(self, count):
        data = b""
        while len(data) < count:
            more, descriptors, _, _ = socket.recv_fds(self.socket, count - len(data), DESCRIPTORS_MAX)
            if not more:
                raise EOFError("the connection was closed")
            self.descriptors += descriptors
            data += more
        return data

    def send(self, of, value, payload=b""):
        if shared_bytes(value) is None:
            return self.send_bytes(encode_frame(of, value, payload))
        memory, frame = share(payload), encode_frame(of, value)
        sent = socket.send_fds(self.socket, [frame], [memory])
        self.send_bytes(frame[sent:])
        os.close(memory)

    def receive(self, of):
        """A message and its payload. Open files that come with it are closed."""
        head_bytes, payload_bytes = struct.unpack("<II", self.receive_bytes(8))
        if head_bytes > HEAD_BYTES_MAX or 8 + head_bytes + payload_bytes > FRAME_BYTES_MAX:
            raise WireError("a frame over its cap")
        value = decode_head(of, self.receive_bytes(head_bytes))
        payload = self.receive_bytes(payload_bytes)
        count = shared_bytes(value)
        if count:
            with open(self.descriptors.pop(0), "rb") as memory:
                payload = mmap.mmap(memory.fileno(), count, mmap.MAP_PRIVATE, mmap.PROT_READ)[:]
        for _ in range(open_files(value)):
            os.close(self.descriptors.pop(0))
        return value, payload


# The test vectors.

DIRECTIONS = {"request": "Request", "reply": "Reply", "to_worker": "ToWorker", "from_worker": "FromWorker"}
ROLES = {"client": CLIENT, "worker": WORKER}
VERDICTS = [
    "accepted",
    "not_a_handshake",
    "no_common_version",
    "wrong_role",
    "too_many_connections",
    "not_allowed",
    "too_many_of_user",
]


def check_vector(direction, name, data, value):
    if direction == "hello":
        assert encode_hello(ROLES[name]) == data
    elif direction == "answer":
        assert decode_answer(data) == (VERDICTS.index(name), 1)
    else:
        of = DIRECTIONS[direction]
        head_bytes, payload_bytes = struct.unpack("<II", data[:8])
        head, payload = data[8 : 8 + head_bytes], data[8 + head_bytes :]
        assert len(payload) == payload_bytes, "lengths"
        assert decode_head(of, head) == value, f"decoded to {decode_head(of, head)}"
        assert encode_frame(of, value, payload) == data, f"encoded to {encode(of, value).hex()}"
        if said := said_of_payloads(value):
            assert join_payloads(split_payloads(payload, said["count"])) == payload, "payloads"


def as_sent(value):
    """A value of the vectors with its task ids, which are written as text, as the struct they are."""
    if isinstance(value, dict):
        return {name: as_sent(field) for name, field in value.items()}
    if isinstance(value, list):
        return [as_sent(element) for element in value]
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{8}-[0-9]+", value):
        epoch, number = value.split("-")
        return {"epoch": int(epoch, 16), "number": int(number)}
    return value


def check_vectors(path):
    count, value = 0, None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("# {", '# "')):
                value = as_sent(json.loads(line[2:]))
            elif line.strip() and not line.startswith("#"):
                full_name, data = line.split(": ")
                direction, _, name = full_name.partition(".")
                try:
                    check_vector(direction, name, bytes.fromhex(data), value)
                except (AssertionError, WireError) as error:
                    sys.exit(f"{full_name}: {error}")
                count += 1
    print(f"{count} vectors")


if __name__ == "__main__":
    check_vectors(sys.argv[1])
