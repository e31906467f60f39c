"""A second reader of trails, written from docs/trail-format.md alone.

    trail.py verify KEY TRAIL...            one line for each: its verdict, and why
    trail.py print KEY IDENTITIES TRAIL     one line of JSON for each record, then the verdict

KEY is the public signing key as `proxyd trail public-key` prints it, IDENTITIES a list of files of
age identities, separated by commas. What those do not open is left out.
"""

import hashlib
import json
import struct
import sys

import pyrage
import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\x89proxyd\n"
CHUNK, SEAL, END = 1, 2, 3
LONGEST = {CHUNK: 266240, SEAL: 72, END: 1179}
STREAMS = ["meta", "downstream", "upstream"]
UPSTREAM = 2
SOURCES = ["stdin", "stdout", "stderr"]
HEAD = struct.Struct(">B4sQI4s")


class Unreadable(Exception):
    """Without a header nothing else can be said."""


class Cut(Exception):
    """The trail is intact up to where the file ends."""


class Altered(Exception):
    """Somebody has changed the file."""


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


class Fields:
    """Reads the fields of a body one by one."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise Altered("a body is too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def text(self):
        try:
            return self.take(self.number(2)).decode()
        except UnicodeDecodeError:
            raise Altered("a text is not UTF-8") from None

    def long_text(self, longest):
        try:
            return self.blob(longest).decode()
        except UnicodeDecodeError:
            raise Altered("a screen is not UTF-8") from None

    def blob(self, longest):
        size = self.number(4)
        if size > longest:
            raise Altered("a blob is too long")
        return self.take(size)

    def finish(self):
        if self.at != len(self.data):
            raise Altered("a body is too long")


class Header:
    def __init__(self, data, key):
        if len(data) < 18:
            raise Cut("no header")
        if data[:8] != MAGIC or sha256(data[:14])[:4] != data[14:18]:
            raise Altered("the header's start")
        version, length = struct.unpack(">HI", data[8:14])
        if version != 1 or length > 524288:
            raise Altered("the header's version or length")
        self.end = 18 + length
        if len(data) < self.end + 64:
            raise Cut("no whole header")
        self.hash = sha256(data[: self.end])
        check(key, data[self.end : self.end + 64], b"proxyd trail header 1\0" + self.hash)
        self.end += 64
        fields = Fields(data[18 : 18 + length])
        self.session = fields.take(16)
        self.created_ns = fields.number(8)
        self.protocol, self.policy = fields.text(), fields.text()
        signer, key_id = fields.take(32), fields.take(8)
        if signer != key.public_bytes_raw() or key_id != sha256(signer)[:8]:
            raise Altered("another signing key")
        self.groups = [read_groups(fields), read_groups(fields)]
        fields.finish()


def read_groups(fields):
    groups = []
    for _group in range(bounded(fields.number(1))):
        members = []
        for _member in range(bounded(fields.number(1))):
            recipient = fields.text()
            members.append((recipient, fields.blob(2048)))
        groups.append(members)
    return groups


def bounded(count):
    if not 1 <= count <= 16:
        raise Altered("a count of groups or members")
    return count


def open_groups(groups, identities):
    """The content key of the first group of which every member's share opens."""
    for members in groups:
        shares = [open_share(wrapped, identities) for _recipient, wrapped in members]
        if None not in shares:
            key = bytes(32)
            for share in shares:
                key = bytes(a ^ b for a, b in zip(key, share, strict=True))
            return key
    return None


def open_share(wrapped, identities):
    try:
        return pyrage.decrypt(wrapped, identities)
    except pyrage.DecryptError:
        return None


def check(key, signature, message):
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise Altered("a signature is wrong") from None


def frames(data, header, key):
    """Every frame that stands, as (sequence, kind, body, chain hash before); ends by an exception
    unless the trail is complete."""
    chain, at, sequence = header.hash, header.end, 0
    counts = [[0, 0] for _stream in STREAMS]
    while True:
        left = data[at:]
        if not left.strip(b"\0"):
            raise Cut(f"after {sequence} frames")
        if len(left) < HEAD.size:
            raise Cut(f"inside of frame {sequence}")
        kind, tag, number, length, head_check = HEAD.unpack(left[: HEAD.size])
        if sha256(left[: HEAD.size - 4])[:4] != head_check:
            raise Altered(f"the head of frame {sequence}")
        if tag != header.hash[:4] or number != sequence:
            raise Altered(f"frame {sequence} is another one")
        if kind not in LONGEST or length > LONGEST[kind]:
            raise Altered(f"the kind or length of frame {sequence}")
        size = HEAD.size + length
        if len(left) < size + 32:
            raise Cut(f"inside of frame {sequence}")
        body = left[HEAD.size : size]
        before, chain = chain, sha256(chain, left[:size])
        if left[size : size + 32] != chain:
            raise Altered(f"bytes of frame {sequence}")
        fields = Fields(body)
        signed = header.session + number.to_bytes(8, "big") + before
        if kind == CHUNK:
            stream = fields.number(1)
            if stream >= len(STREAMS):
                raise Altered(f"the stream of frame {sequence}")
            fields.take(8)
            counts[stream][0] += 1
            counts[stream][1] += fields.number(4)
        elif kind == SEAL:
            clock = fields.take(8)
            check(key, fields.take(64), b"proxyd trail seal 1\0" + signed + clock)
            fields.finish()
        else:
            read_end(fields, key, signed, (counts, before))
        yield sequence, kind, body, before
        at, sequence = at + size + 32, sequence + 1
        if kind == END:
            if data[at:]:
                raise Altered("bytes after the end")
            return


def read_end(fields, key, signed, expected):
    if fields.number(1) > 1:
        raise Altered("the outcome of the end")
    fields.take(8)
    counts = [[fields.number(8), fields.number(8)] for _stream in STREAMS]
    final = fields.take(32)
    if len(fields.text().encode()) > 1024:
        raise Altered("the reason of the end")
    covered = fields.data[: fields.at]
    check(key, fields.take(64), b"proxyd trail end 1\0" + signed + covered)
    fields.finish()
    if (counts, final) != expected:
        raise Altered("the end does not fit what is before it")


def records(header, sequence, body, before, keys):
    """The records of a chunk; none without its content key."""
    fields = Fields(body)
    stream, first, size = fields.number(1), fields.number(8), fields.number(4)
    key = keys[1 if stream == UPSTREAM else 0]
    if key is None:
        return
    associated = header.hash + before + struct.pack(">QBQI", sequence, stream, first, size)
    nonce = bytes(4) + sequence.to_bytes(8, "big")
    try:
        packed = AESGCM(key).decrypt(nonce, body[fields.at :], associated)
    except InvalidTag:
        raise Altered(f"frame {sequence} does not decrypt") from None
    plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    if len(plain) != size:
        raise Altered(f"frame {sequence} has another size")
    fields = Fields(plain)
    while fields.at < size:
        kind, length, time = fields.number(1), fields.number(4), fields.number(8)
        record = {"time_ns": time, "stream": STREAMS[stream]}
        yield record | read_record(kind, Fields(fields.take(length)))


def read_record(kind, fields):
    channel = {"channel": fields.number(4)} if kind >= 16 else {}
    read = KINDS.get(kind)
    if read is None:
        raise Altered(f"records of kind {kind}")
    record = channel | read(fields)
    fields.finish()
    return record


def shown(data):
    """Bytes of a peer, of which any may come; latin-1 keeps each."""
    return data.decode("latin-1")


def file_operation(fields):
    record = {"kind": "file operation", "operation": fields.text()}
    record["path"], record["new_path"] = shown(fields.blob(131072)), shown(fields.blob(131072))
    record["size"] = fields.number(8)
    record["sha256"] = fields.take(32).hex() if fields.number(1) else None
    record["result"] = fields.text()
    return record


KINDS = {
    1: lambda f: {"kind": "fact", "name": f.text(), "value": f.text()},
    2: lambda f: {
        "kind": "event",
        "event": f.text(),
        "fields": dict((f.text(), f.text()) for _field in range(f.number(2))),
    },
    3: lambda f: {"kind": "note", "text": f.text()},
    4: lambda f: {"kind": "gap", "reason": f.text(), "dropped": f.number(8)},
    16: lambda f: {
        "kind": "channel open",
        "type": f.text(),
        "allowed": f.number(1) == 0,
        "reason": f.text(),
    },
    17: lambda f: {"kind": "channel close"},
    18: lambda f: {
        "kind": "data",
        "source": SOURCES[f.number(1)],
        "bytes": shown(f.blob(131072)),
    },
    19: lambda f: {"kind": "pty", "terminal": f.text(), "size": [f.number(4), f.number(4)]},
    20: lambda f: {"kind": "resize", "size": [f.number(4), f.number(4)]},
    21: lambda f: {"kind": "eof", "source": SOURCES[f.number(1)]},
    22: lambda f: {"kind": "exit status", "status": f.number(4)},
    23: lambda f: {
        "kind": "exit signal",
        "signal": f.text(),
        "core": f.number(1) == 1,
        "message": f.text(),
    },
    24: file_operation,
    25: lambda f: {"kind": "command", "command": shown(f.blob(131072))},
    26: lambda f: {
        "kind": "keyframe",
        "size": [f.number(4), f.number(4)],
        "screen": f.long_text(131072),
    },
}


def in_order(run):
    """The records of a run of chunks, by their times; what is equal stays as it is."""
    return sorted(run, key=lambda record: record["time_ns"])


def read_trail(data, key, keys_of=None):
    """Yields the records that `keys_of` opens; ends by an exception unless the trail is complete."""
    try:
        header = Header(data, key)
    except (Cut, Altered) as why:
        raise Unreadable(why) from None
    keys = keys_of(header) if keys_of else [None, None]
    run, last = [], None
    try:
        for sequence, kind, body, before in frames(data, header, key):
            stream = body[0] if kind == CHUNK else None
            if stream is None or last is None or stream <= last:
                yield from in_order(run)
                run = []
            last = stream
            if stream is not None:
                run.extend(records(header, sequence, body, before, keys))
    except (Cut, Altered):
        yield from in_order(run)
        raise
    yield from in_order(run)


def verdict(data, key):
    try:
        for _record in read_trail(data, key):
            pass
    except Unreadable as unreadable:
        return f"nothing can be said: {unreadable}"
    except Cut as cut:
        return f"cut: {cut}"
    except Altered as altered:
        return f"altered: {altered}"
    return "complete"


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def main(verb, key, *arguments):
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.removeprefix("ed25519:")))
    if verb == "verify":
        for path in arguments:
            print(verdict(read_file(path), key), flush=True)
        return
    files, trail = arguments
    lines = [line for path in files.split(",") for line in read_file(path).decode().splitlines()]
    secrets = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
    identities = [pyrage.x25519.Identity.from_str(secret) for secret in secrets]
    data = read_file(trail)

    def keys_of(header):
        return [open_groups(groups, identities) for groups in header.groups]

    try:
        for record in read_trail(data, key, keys_of):
            print(json.dumps(record))
    except (Unreadable, Cut, Altered):
        pass
    print(verdict(data, key))


if __name__ == "__main__":
    main(*sys.argv[1:])
