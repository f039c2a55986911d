"""Downloads from a real server on this machine, in its good and bad moods."""

import hashlib
import http.server
import re
import socket
import threading

import pytest

from keras_adaad.zoo import download as module
from keras_adaad.zoo.download import address
from keras_adaad.zoo.download import download
from keras_adaad.zoo.download import download_entry
from keras_adaad.zoo.download import download_from_drive

pytestmark = pytest.mark.once

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """What each path does; `self.server.seen` records the ranges asked for."""

    def do_GET(self):
        asked = self.headers["Range"]
        self.server.seen.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        self.server.paths.append(self.path)
        route = self.path.partition("?")[0]
        if route in ("/403", "/404", "/429"):
            self.send_error(int(route[1:]))
        elif route == "/page" or "over-quota" in self.path:
            self.answer(200, b"\n<!doctype html><html>Quota exceeded</html>")
        elif route == "/no-range":
            self.answer(200, CONTENT)
        elif route == "/cut-always":
            self.answer(200, CONTENT, cut=HALF)
        elif route == "/unknown-size":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
        elif start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
        else:
            cut = HALF if route == "/cut-once" and not start else None
            self.answer(206 if asked else 200, CONTENT[start:], cut)

    def answer(self, status, body, cut=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen, server.paths = [], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "model.pt"


def part_of(path):
    return path.with_name(path.name + ".part")


@pytest.mark.parametrize("route", ["file", "no-range", "unknown-size"])
def test_a_file_arrives_whole(server, path, route):
    arrived = download(
        f"{server.url}/{route}", path, sha256=SHA256, size=len(CONTENT)
    )
    assert arrived == str(path)
    assert path.read_bytes() == CONTENT
    assert not part_of(path).exists()


def test_the_progress_is_shown(server, path, capsys):
    download(f"{server.url}/file", path)
    assert f"{len(CONTENT)}/{len(CONTENT)}" in capsys.readouterr().out


def test_a_file_that_is_there_is_only_verified(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    download(f"{server.url}/file", path, sha256=SHA256.upper())
    with pytest.raises(OSError, match="SHA-256.*Move it away"):
        download(f"{server.url}/file", path, sha256=64 * "0")
    assert path.read_bytes() == CONTENT
    assert server.seen == []


@pytest.mark.parametrize("route", ["file", "no-range"])
def test_an_interrupted_download_goes_on(server, path, route):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:HALF])
    download(f"{server.url}/{route}", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.seen == [f"bytes={HALF}-"]


def test_a_connection_that_is_cut_is_taken_up_again(server, path):
    download(f"{server.url}/cut-once", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.seen == [None, f"bytes={HALF}-"]


def test_a_connection_that_is_always_cut_is_given_up(server, path):
    with pytest.raises(OSError, match=f"after {HALF} of {len(CONTENT)}"):
        download(f"{server.url}/cut-always", path)
    assert not path.exists()
    assert part_of(path).stat().st_size == HALF


@pytest.mark.parametrize("extra, seen", [(b"", 1), (b"more", 2)])
def test_a_part_that_is_whole_already_or_too_long(server, path, extra, seen):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT + extra)
    download(f"{server.url}/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert len(server.seen) == seen


@pytest.mark.parametrize(
    "route, reason",
    [
        ("403", "403"),
        ("404", "404"),
        ("429", "429"),
        ("page", "web page"),
    ],
)
def test_a_host_that_refuses(server, path, route, reason):
    url = f"{server.url}/{route}"
    with pytest.raises(OSError, match=reason) as error:
        download(url, path, page="https://example.org/by-hand")
    message = str(error.value)
    assert url in message
    assert "by hand from https://example.org/by-hand" in message
    assert f"save it as {str(path)!r}" in message
    assert "`checkpoint`" in message
    assert not path.exists()


def test_a_network_that_is_unreachable(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(OSError, match="by hand"):
            download(url, path)


@pytest.mark.parametrize(
    "expected, problem",
    [
        ({"sha256": 64 * "0"}, f"SHA-256 {SHA256}"),
        ({"size": 5}, "instead of 5"),
    ],
)
def test_another_file_than_expected(server, path, expected, problem):
    with pytest.raises(OSError, match=f"{problem}.*by hand"):
        download(f"{server.url}/file", path, **expected)
    assert not path.exists()
    # Nothing of it is left for the next call to go on from.
    assert not part_of(path).exists()


@pytest.fixture
def drive(server, monkeypatch):
    """Puts the server in the place of Google Drive."""
    published = "https://drive.usercontent.google.com/download"
    local = module._DRIVE_FILE.replace(published, f"{server.url}/drive")
    monkeypatch.setattr(module, "_DRIVE_FILE", local)
    return server


def test_google_drive(drive, path):
    download_from_drive("an-id", path, sha256=SHA256, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert drive.paths == ["/drive?id=an-id&export=download&confirm=t"]


def test_google_drive_out_of_quota(drive, path):
    with pytest.raises(OSError, match="web page.*/file/d/over-quota/view"):
        download_from_drive("over-quota", path)


def entry(**given):
    known = {"download_url": None, "gdrive_id": "an-id"}
    return {**known, "sha256": None, "size": None, **given}


def test_an_entry_comes_from_its_authors_or_from_drive(drive, path):
    own = entry(download_url=f"{drive.url}/file", sha256=64 * "0")
    assert address(own) == f"{drive.url}/file"
    download_entry(own, path)
    assert path.read_bytes() == CONTENT
    at_drive = entry(sha256=64 * "0")
    assert address(at_drive) == "https://drive.google.com/file/d/an-id/view"
    with pytest.raises(OSError, match=f"SHA-256 {SHA256}"):
        download_entry(at_drive, path.with_name("other.pt"))
