"""The download, against a server that breaks off, refuses ranges, sends something else, or is not there."""

import contextlib
import hashlib
import http.server
import threading

import numpy as np
import pytest

from lib import sources
from lib.errors import SourceError
from lib.sources import download
from tests import tiny
from tests.tiny import small_set, zipped

CONTENT = np.random.default_rng(0).bytes(600_000)
PAGE = b"<html>Sign in to this network</html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `breaks`: bytes after which each of the first connections ends; `page`: headers of a page sent instead."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges, self.status = content, [], True, None
        self.page: dict[str, str] | None = None
        self.asked: list[str | None] = []  # Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        if server.page is not None:
            self.send_response(200)
            for name, value in server.page.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(PAGE)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # of a client that has seen enough
            self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server(CONTENT)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def remote(server: Server, content: bytes | None = None) -> download.Remote:
    content = server.content if content is None else content
    return download.Remote(server.url, "set.zip", len(content), hashlib.sha256(content).hexdigest())


def fetch(server: Server, folder, **options):
    return download.fetch(options.pop("as_", remote(server)), folder, progress=False, wait=0.001)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_in_one_go(server, tmp_path):
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]
    assert names(tmp_path) == ["set.zip"]


def test_connection_that_breaks_is_taken_up_where_it_ended(server, tmp_path):
    server.breaks = [100_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    first = 100_000 - 100_000 % download.PIECE  # whole pieces are kept
    second = first + 200_000 - 200_000 % download.PIECE
    assert server.asked == [None, f"bytes={first}-", f"bytes={second}-"]
    assert first > 90_000


def test_part_of_an_earlier_run_is_gone_on_with(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:400_000])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]
    assert names(tmp_path) == ["set.zip"]


def test_part_that_is_complete_needs_no_network(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_file_that_is_there_is_not_downloaded_again(server, tmp_path):
    fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_damaged_file_that_is_there_is_replaced(server, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"x" * len(CONTENT))
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_server_without_ranges_starts_again(server, tmp_path):
    server.ranges, server.breaks = False, [100_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (
            {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(CONTENT))},
            "a web page came",
        ),
        ({"Content-Type": "text/html", "Content-Length": str(len(PAGE))}, "a web page came"),
        ({"Content-Type": "application/zip", "Content-Length": str(len(PAGE))}, "something else came"),
        ({"Content-Type": "application/zip"}, "something else came"),
    ],
)
def test_page_of_a_portal_leaves_the_part_of_an_earlier_run(server, tmp_path, headers, said):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:400_000])
    server.page = headers
    with pytest.raises(SourceError, match=f"{said}.*check the network and .* goes on where it stopped"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["set.zip.part"]
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT[:400_000]
    server.page = None
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"] * (download.PATIENCE + 1)


def test_page_of_a_portal_is_not_the_beginning_of_a_file(server, tmp_path):
    server.page = {"Content-Type": "text/html"}
    with pytest.raises(SourceError, match="a web page came .*SOURCE=<zip or folder>"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_server_without_ranges_gives_the_whole_to_who_had_a_part(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:400_000])
    server.ranges = False
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]


def test_file_that_has_changed_since_its_first_part_is_told(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:400_000])
    with pytest.raises(SourceError, match="offers 600,000 bytes as set.zip, which has 600,001"):
        fetch(server, tmp_path, as_=remote(server, CONTENT + b"x"))
    assert names(tmp_path) == []


def test_part_of_another_file_is_found_out_and_removed(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(b"x" * 400_000)
    with pytest.raises(SourceError, match="its SHA-256 differs"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_part_longer_than_the_file_is_removed(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT + b"x")
    with pytest.raises(SourceError, match="SHA-256"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_other_content_of_the_same_size(server, tmp_path):
    other = remote(server, bytes(len(CONTENT)))
    with pytest.raises(SourceError, match="is not set.zip as published"):
        fetch(server, tmp_path, as_=other)
    assert names(tmp_path) == []


def test_other_size_is_refused_before_it_is_downloaded(server, tmp_path):
    with pytest.raises(SourceError, match="offers 600,000 bytes as set.zip, which has 600,001"):
        fetch(server, tmp_path, as_=remote(server, CONTENT + b"x"))
    assert names(tmp_path) == []


def test_file_that_has_moved_is_asked_for_once(server, tmp_path):
    server.status = 404
    with pytest.raises(SourceError, match=r"answers 404 Not Found for set.zip.*SOURCE=<zip or folder>"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_busy_server_is_asked_again_then_given_up_and_the_part_kept(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:1000])
    server.status = 503
    with pytest.raises(SourceError, match=r"503.*goes on where it stopped"):
        fetch(server, tmp_path)
    assert len(server.asked) == download.PATIENCE
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT[:1000]


def test_no_network_is_one_sentence_and_leaves_nothing(server, tmp_path, monkeypatch, capsys):
    gone = download.Remote("http://127.0.0.1:9/set.zip", "set.zip", 10, "0" * 64)
    given = download.fetch
    monkeypatch.setattr(sources, "PUBLIC", gone)
    monkeypatch.setattr(sources.download, "fetch", lambda *args, **kw: given(*args, **kw, wait=0.001))
    assert sources.main(["--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("make data: set.zip could not be downloaded from 127.0.0.1 (")
    assert "refused" in said.lower()
    assert "SOURCE=<zip or folder>" in said
    assert not (tmp_path / "data" / "downloads").exists()
    assert not (tmp_path / "data" / "raw" / "chest_xray").exists()


def test_disk_without_room_is_said_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 700_000}))
    with pytest.raises(SourceError, match="0.00 GB left; downloading and unpacking set.zip takes 0.00 GB"):
        fetch(server, tmp_path)
    assert server.asked == []


def test_downloaded_archive_becomes_images_and_is_removed(tmp_path, server, monkeypatch, capsys):
    server.content = zipped(tmp_path / "made.zip", small_set()).read_bytes()
    monkeypatch.setattr(sources, "PUBLIC", remote(server))
    cfg = tiny.real(tmp_path / "project")
    sources.fetch(cfg, progress=False)
    assert not (cfg.root / "data" / "downloads").exists()
    sources.fetch(cfg, progress=False)
    assert "16 are in" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_what_someone_else_put_beside_the_download_stays(tmp_path, server, monkeypatch):
    server.content = zipped(tmp_path / "made.zip", small_set()).read_bytes()
    monkeypatch.setattr(sources, "PUBLIC", remote(server))
    cfg = tiny.real(tmp_path / "project")
    downloads = cfg.root / "data" / "downloads"
    downloads.mkdir()
    (downloads / "mine.zip").write_bytes(b"mine")
    (downloads / "tmpab12_xyz").touch()  # as pooch leaves one that was killed
    sources.fetch(cfg, progress=False)
    assert names(downloads) == ["mine.zip"]
