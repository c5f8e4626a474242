"""Serve the built site on this machine: what `make site` ends with."""

import argparse
import errno
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from qa_lab.claims.notebooks import ROOT


class Quiet(SimpleHTTPRequestHandler):
    """Files without a line in the terminal for each."""

    def log_message(self, *_) -> None:
        """Say nothing."""


def listen(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of `folder` on localhost.

    Raises:
        SystemExit: The port cannot be had; the message says which to try.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
    except OSError as problem:
        if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "in use" if problem.errno == errno.EADDRINUSE else "not allowed"
        sys.exit(f"Port {port} is {why}. Choose another: make site PORT={port + 1}")


def main() -> None:
    """Serve until interrupted; with --check, only see whether the port can be had."""
    parser = argparse.ArgumentParser(prog="qa_lab.guide.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--check", action="store_true", help="try the port, serve nothing")
    arguments = parser.parse_args()
    with listen(ROOT / "build" / "site", arguments.port) as server:
        if arguments.check:
            return
        here = f"http://localhost:{arguments.port}"
        print(f"The guide is at {here}/ and {here}/zh/\nPress Ctrl-C to stop.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
