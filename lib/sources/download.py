"""How does a large file arrive over a connection that breaks? Ranges of it, appended to a part that is kept."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tqdm.auto import tqdm

from lib.errors import SourceError

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
PIECE = 1 << 15  # bytes; what a broken connection had brought of a piece is lost
PATIENCE = 4  # attempts in a row that bring nothing
PERMANENT = {400, 401, 403, 404, 405, 410}  # answers that another attempt will not change
AGAIN = "run `make data` again, or download it elsewhere and run `make data SOURCE=<zip or folder>`"
KEPT = "run `make data` again, which goes on where it stopped"
TEMPORARY = re.compile(r"tmp[a-z0-9_]{8}")  # pooch's files, as Python's tempfile names them


@dataclass(frozen=True)
class Remote:
    """A file somewhere else, and what it must be."""

    url: str
    name: str
    bytes: int
    sha256: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or self.url


def fetch(remote: Remote, folder: Path, *, progress: bool = True, wait: float = 1.0) -> Path:
    """Download into `folder`, going on where an earlier attempt stopped; size and SHA-256 are checked.

    wait  seconds before an attempt goes on, doubled for each in a row that brought nothing, 30 at most
    Raises SourceError when the network or the disk does not give it, or when it is another file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if TEMPORARY.fullmatch(left.name) and left.is_file():  # of a download that was killed
            left.unlink()
    part = folder / f"{remote.name}.part"
    missing = remote.bytes - max(_size(part), _size(folder / remote.name))
    if shutil.disk_usage(folder).free < missing + remote.bytes:  # the archive and what is in it
        raise SourceError(
            f"the disk of {folder} has {_gb(shutil.disk_usage(folder).free)} left; downloading and unpacking "
            f"{remote.name} takes {_gb(missing + remote.bytes)}"
        )
    pooch.get_logger().setLevel("WARNING")
    try:
        done = pooch.retrieve(
            remote.url, f"sha256:{remote.sha256}", fname=remote.name, path=folder,
            downloader=_Resuming(remote, part, progress, wait),
        )  # fmt: skip
    except ValueError as error:  # pooch's word for another checksum
        part.unlink(missing_ok=True)
        raise SourceError(
            f"what {remote.host} sent is not {remote.name} as published (its SHA-256 differs), and was removed; run `make data` "
            "again, or, if you trust another copy, `make data SOURCE=<zip or folder>`"
        ) from error
    part.unlink(missing_ok=True)
    return Path(done)


class _Resuming:
    """A downloader for pooch: fills `part`, then gives it to pooch for the check, and keeps it until that is done."""

    def __init__(self, remote: Remote, part: Path, progress: bool, wait: float) -> None:
        self.remote, self.part, self.progress, self.wait = remote, part, progress, wait

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        total = self.remote.bytes
        bar = tqdm(
            total=total, initial=_size(self.part), desc=self.remote.name, unit="B", unit_scale=True,
            disable=not self.progress,
        )  # fmt: skip
        failures = 0
        with bar:
            while (had := _size(self.part)) < total:
                reason = self._attempt(bar)
                failures = failures + 1 if _size(self.part) <= had else 0
                if failures >= PATIENCE:
                    raise SourceError(
                        f"{self.remote.name} could not be downloaded from {self.remote.host} ({reason}); "
                        f"check the network and {KEPT if _size(self.part) else AGAIN}"
                    )
                if _size(self.part) < total:
                    bar.set_postfix_str(f"{reason}; trying again")
                    time.sleep(min(self.wait * 2**failures, 30))
        os.unlink(output_file)  # pooch's empty temporary file
        try:
            os.link(self.part, output_file)
        except OSError:  # a file system without hard links
            os.replace(self.part, output_file)

    def _attempt(self, bar: tqdm) -> str:
        """Append what one connection brings; why it ended."""
        have = _size(self.part)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(self.remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code == 416:
                    self.part.unlink()
                    return "the kept part does not fit the file"
                self._check(response, have)
                if response.status_code != 206:  # from the beginning, whatever was asked for
                    have = 0
                bar.n = have
                self._write(response, have, bar)
            return "the connection ended"
        except requests.RequestException as error:
            return _reason(error)

    def _write(self, response: requests.Response, have: int, bar: tqdm) -> None:
        with open(self.part, "ab" if have else "wb") as out:
            for piece in response.iter_content(PIECE):
                have += len(piece)
                if have > self.remote.bytes:
                    raise self._another(have)
                out.write(piece)
                bar.update(len(piece))

    def _check(self, response: requests.Response, have: int) -> None:
        """Raises SourceError when it is of no use to ask again, requests.HTTPError when it may be.

        The page of a portal, or whatever a proxy sends instead of the rest, must not cost the part: from the beginning starts
        only a server without ranges, which sends the whole file and says its length.
        """
        if response.status_code in PERMANENT:
            raise SourceError(
                f"{self.remote.host} answers {response.status_code} {response.reason} for {self.remote.name}; it may have moved: "
                "download it elsewhere and run `make data SOURCE=<zip or folder>`"
            )
        response.raise_for_status()
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise requests.HTTPError("a web page came instead of the file")
        ranged, offered = response.status_code == 206, _offered(response, have)
        if have and not ranged and offered != self.remote.bytes:
            raise requests.HTTPError(
                f"something else came than the rest of the file; delete {self.part} to begin anew"
            )
        if offered is not None and offered != self.remote.bytes:
            raise self._another(offered)
        begins = response.headers.get("Content-Range", f"bytes {have}-").startswith(f"bytes {have}-")
        if ranged and not begins:
            self.part.unlink(missing_ok=True)
            raise requests.HTTPError("the server sent another range than the one asked for")

    def _another(self, size: int) -> SourceError:
        self.part.unlink(missing_ok=True)
        return SourceError(
            f"{self.remote.host} offers {size:,} bytes as {self.remote.name}, which has {self.remote.bytes:,}; it may have changed: "
            "download it elsewhere and run `make data SOURCE=<zip or folder>`"
        )


def _offered(response: requests.Response, have: int) -> int | None:
    """Bytes of the whole file by what an answer says of itself, `have` of them left out of a range; None where it says nothing."""
    length = response.headers.get("Content-Length", "")
    if response.status_code != 206:
        return int(length) if length.isdigit() else None
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    return have + int(length) if length.isdigit() else int(whole) if whole.isdigit() else None


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def _reason(error: requests.RequestException) -> str:
    """The innermost cause in words: `Name or service not known` rather than a chain of classes."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.HTTPError):
        return str(error).split(" for url")[0]
    words = str(error)
    for mark in ("] ", ": "):
        words = words.rsplit(mark, 1)[-1]
    return words.strip("()'\" ") or type(error).__name__
