"""paramiko as a program that behaves like ssh: METHOD SECRET PORT HOST exec|pty|sftp WORDS...

`pty` makes its terminal larger once the program has shown a line. `sftp` is followed by put or get,
from and to.
"""

import socket
import sys
import threading

import paramiko


def logged_in(method, secret, port, host):
    sock = socket.create_connection((host, int(port)))
    transport = paramiko.Transport(sock)
    transport.start_client(timeout=20)
    if method == "password":
        transport.auth_password("alice", secret, fallback=False)
    elif method == "keyboard-interactive":
        transport.auth_interactive("alice", lambda _title, _text, asked: [secret] * len(asked))
    else:
        transport.auth_publickey("alice", paramiko.Ed25519Key.from_private_key_file(secret))
    return transport


def send_all(channel):
    while data := sys.stdin.buffer.read1(65536):
        channel.sendall(data)
    channel.shutdown_write()


def copy_out(recv, to):
    while data := recv(65536):
        to.write(data)
        to.flush()


def run(channel, command):
    channel.exec_command(command)
    parts = [
        threading.Thread(target=send_all, args=(channel,)),
        threading.Thread(target=copy_out, args=(channel.recv_stderr, sys.stderr.buffer)),
    ]
    for part in parts:
        part.start()
    copy_out(channel.recv, sys.stdout.buffer)
    for part in parts:
        part.join()
    return channel.recv_exit_status()


def resize(channel, command):
    channel.get_pty("xterm", 90, 30)
    channel.exec_command(command)
    shown = b""
    while b"\n" not in shown:
        shown += channel.recv(100)
    channel.resize_pty(121, 41)
    channel.sendall(b"typed\r")
    sys.stdout.buffer.write(shown)
    copy_out(channel.recv, sys.stdout.buffer)
    return channel.recv_exit_status()


def main():
    method, secret, port, host, action, *words = sys.argv[1:]
    transport = logged_in(method, secret, port, host)
    if action == "exec":
        code = run(transport.open_session(), words[0])
    elif action == "pty":
        code = resize(transport.open_session(), words[0])
    else:
        verb, source, to = words
        with paramiko.SFTPClient.from_transport(transport) as sftp:
            getattr(sftp, verb)(source, to)
        code = 0
    transport.close()
    sys.exit(code)


main()
