"""Runs a MongoDB server for tests, in a directory of its own that goes with it.

    mongodb_server.py --port P -- COMMAND [ARGUMENT...]

A word of the command that is PORT or FOLDER becomes the port and the directory. The script writes the port to
standard output once the server listens; without --port it takes a free one. The server ends when the standard
input of the script is closed, so it cannot outlive the test that started it; what it says goes to standard
error if it does not start.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent():
    """On Linux: the server goes even if this script is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    port = arguments.port or free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = {"PORT": str(port), "FOLDER": folder}
        command = [words.get(word, word) for word in arguments.command]
        with open(os.path.join(folder, "said"), "w+") as said:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=die_with_parent,
            )
            try:
                while not is_listening(port):
                    if server.poll() is not None:
                        said.seek(0)
                        sys.exit(f"{command[0]} ended with {server.returncode}: {said.read()}")
                    time.sleep(0.02)
                print(port, flush=True)
                sys.stdin.read()
            finally:
                server.kill()
                server.wait()


main()
