"""One end of a Kerberos context, for a peer that means no good: SERVICE.

Answers each line of its input, hexadecimal, with one: `token HEX` by the next token, which is empty
where there is none, `mic HEX` by the checksum of those bytes.
"""

import sys

import gssapi

name = gssapi.Name(sys.argv[1], gssapi.NameType.hostbased_service)
context = gssapi.SecurityContext(name=name, usage="initiate")
for line in sys.stdin:
    word, _, data = line.strip().partition(" ")
    data = bytes.fromhex(data)
    answer = context.step(data or None) if word == "token" else context.get_signature(data)
    print((answer or b"").hex(), flush=True)
