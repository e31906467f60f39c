"""asyncssh as a program that behaves like ssh: METHOD SECRET PORT HOST exec|pty|sftp|scp WORDS...

`pty` makes its terminal larger once the program has shown a line. `sftp` and `scp` are followed by
put or get, from and to.
"""

import asyncio
import sys

import asyncssh


async def run(connection, command):
    process = await connection.create_process(command, encoding=None)
    out, err = await process.communicate(sys.stdin.buffer.read())
    sys.stdout.buffer.write(out)
    sys.stderr.buffer.write(err)
    return process.exit_status


async def resize(connection, command):
    process = await connection.create_process(command, term_type="xterm", term_size=(90, 30))
    shown = await process.stdout.readline()
    process.change_terminal_size(121, 41)
    process.stdin.write("typed\r")
    print(shown + await process.stdout.read(), end="")
    await process.wait_closed()
    return process.exit_status


async def main():
    method, secret, port, host, action, *words = sys.argv[1:]
    secrets = {"client_keys": [secret]} if method == "publickey" else {"password": secret}
    async with asyncssh.connect(
        host, int(port), username="alice", known_hosts=None, config=None, agent_path=None,
        preferred_auth=method, **secrets,
    ) as connection:
        if action == "exec":
            return await run(connection, words[0])
        if action == "pty":
            return await resize(connection, words[0])
        verb, source, to = words
        if action == "sftp":
            async with connection.start_sftp_client() as sftp:
                await getattr(sftp, verb)(source, to)
        elif verb == "put":
            await asyncssh.scp(source, (connection, to))
        else:
            await asyncssh.scp((connection, source), to)
        return 0


sys.exit(asyncio.run(main()))
