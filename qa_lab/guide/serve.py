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


def serve(folder: Path, port: int) -> int:
    """Serve `folder` on localhost until interrupted.

    Returns:
        Exit code: 0 after Ctrl-C, 1 if the port cannot be had.
    """
    handler = partial(Quiet, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as problem:
        if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "in use" if problem.errno == errno.EADDRINUSE else "not allowed"
        print(f"Port {port} is {why}. Choose another: make site PORT={port + 1}", file=sys.stderr)
        return 1
    print(f"The guide is at http://localhost:{port}/ and http://localhost:{port}/zh/")
    print("Press Ctrl-C to stop.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="qa_lab.guide.serve")
    parser.add_argument("--port", type=int, default=8000)
    sys.exit(serve(ROOT / "build" / "site", parser.parse_args().port))
