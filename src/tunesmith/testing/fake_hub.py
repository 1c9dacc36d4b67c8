"""A Hugging Face hub on localhost that serves one model folder, for tests without a network."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """A running hub.

    Attributes:
        url: Its address.
        downloads: Names of the files that were given out, in order.
    """

    url: str = ""
    downloads: list[str] = field(default_factory=list)


@contextmanager
def fake_hub(folder: Path, repo: str) -> Iterator[FakeHub]:
    """Serve the files of `folder` as the hub id `repo`, with one commit, `COMMIT`."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, repo, hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(folder: Path, repo: str, hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))

    class Handler(BaseHTTPRequestHandler):
        """Answers what huggingface_hub asks: the model, its tree of files, each file."""

        def do_GET(self) -> None:
            """Answer a request with its body."""
            self._answer(body=True)

        def do_HEAD(self) -> None:
            """Answer a request without its body."""
            self._answer(body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/{COMMIT}"):
                siblings = [{"rfilename": name} for name in names]
                self._json({"id": repo, "sha": COMMIT, "siblings": siblings})
            elif path.startswith(f"/api/models/{repo}/tree/"):
                self._json([_entry(folder, name) for name in names])
            elif path.startswith(f"/{repo}/resolve/{COMMIT}/"):
                self._file(path.split("/", 5)[5], body)
            elif path.startswith(f"/api/models/{repo}/revision/"):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _json(self, data: object) -> None:
            self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, body: bool) -> None:
            content = (folder / name).read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            if body:
                hub.downloads.append(name)
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], body: bool = True
        ) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler


def _entry(folder: Path, name: str) -> dict[str, object]:
    content = (folder / name).read_bytes()
    return {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }
