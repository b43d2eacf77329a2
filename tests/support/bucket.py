"""A small S3 server on loopback for tests: as much of the protocol as pyarrow and obstore speak, over a real socket."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

KEY, SECRET = "AKIACANARY0KEY", "canary/secret+0"


class Bucket:
    """
    One bucket, named `bars`, of objects in memory; use it as a context manager.

    Attributes:
        objects: the bytes by key.
        requests: "PUT store/STORE.json", in the order in which they came.
        intercept: called with a request before it is served; a text that it returns is the code of a refusal.
        conditional: whether it heeds If-Match and If-None-Match of a PUT; there are servers that do not.
        page: keys a page of a listing.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.intercept: Callable[[str], str | None] = lambda request: None
        self.served: Callable[[str], str | None] = lambda request: None
        self.conditional = True
        self.page = 7
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Bucket:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Return the host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def url(self, prefix: str = "store") -> str:
        """Return the URL of a store in the bucket, with all that a client must know but the credentials."""
        return f"s3://bars/{prefix}?scheme=http&endpoint_override={self.address}&region=us-east-1"


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.serve()

        do_HEAD = do_PUT = do_DELETE = do_POST = do_GET

        def serve(self) -> None:
            parts = urlsplit(self.path)
            self.key = unquote(parts.path).removeprefix("/bars").removeprefix("/")
            self.query = parse_qs(parts.query, keep_blank_values=True)
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = f"{self.command} {self.key}"
            with bucket.lock:
                bucket.requests.append(request)
                refused = self.refusal() or bucket.intercept(request)
                if not refused:
                    status, headers, body = self.answer()
                    refused = bucket.served(request)
            if refused:
                status, headers, body = self.error(403, refused)
            with contextlib.suppress(ConnectionError):  # who asked may have been killed
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def refusal(self) -> str | None:
            found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
            return None if found and found[1] == KEY else "AccessDenied"

        def answer(self) -> tuple[int, dict[str, str], bytes]:
            if urlsplit(self.path).path.split("/")[1] != "bars":
                return self.error(404, "NoSuchBucket")
            if self.command == "POST" and "delete" in self.query:
                return self.delete(re.findall("<Key>(.*?)</Key>", self.body.decode()))
            if self.command == "DELETE":
                return self.delete([self.key])
            if self.command == "PUT":
                return self.put()
            return self.get() if self.key else self.listing()

        def delete(self, keys: list[str]) -> tuple[int, dict[str, str], bytes]:
            for key in keys:
                bucket.objects.pop(unescape(key), None)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return 200, {"Content-Type": "application/xml"}, f"<DeleteResult>{gone}</DeleteResult>".encode()

        def put(self) -> tuple[int, dict[str, str], bytes]:
            old, match = bucket.objects.get(self.key), self.headers.get("If-Match")
            if bucket.conditional and old is not None and self.headers.get("If-None-Match") == "*":
                return self.error(412, "PreconditionFailed")
            if bucket.conditional and match and (old is None or etag(old) != match):
                return self.error(412, "PreconditionFailed")
            bucket.objects[self.key] = self.body
            return 200, {"ETag": etag(self.body)}, b""

        def get(self) -> tuple[int, dict[str, str], bytes]:
            data = bucket.objects.get(self.key)
            if data is None:
                return self.error(404, "NoSuchKey")
            headers = {"ETag": etag(data), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
            if self.command == "HEAD":
                return 200, headers | {"Content-Length": str(len(data))}, b""
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not wanted:
                return 200, headers, data
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            return 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]

        def listing(self) -> tuple[int, dict[str, str], bytes]:
            prefix, delimiter = (self.query.get(name, [""])[0] for name in ("prefix", "delimiter"))
            after = self.query.get("continuation-token", [""])[0]
            keys = sorted(key for key in bucket.objects if key.startswith(prefix))
            if delimiter:
                heads = [key[len(prefix) :].partition(delimiter) for key in keys]
                keys = sorted({prefix + head + mark for head, mark, _ in heads})
            shown = [key for key in keys if key > after][: bucket.page]
            rows = "".join(map(self.row, shown))
            more = bool(shown) and shown[-1] != keys[-1]
            token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
            text = f"<ListBucketResult><Name>bars</Name><KeyCount>{len(shown)}</KeyCount>{token}{rows}"
            text += f"<IsTruncated>{str(more).lower()}</IsTruncated></ListBucketResult>"
            return 200, {"Content-Type": "application/xml"}, text.encode()

        def row(self, key: str) -> str:
            data = bucket.objects.get(key)
            if data is None:
                return f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>"
            facts = f"<ETag>{escape(etag(data))}</ETag><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            return f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>{facts}</Contents>"

        def error(self, status: int, code: str) -> tuple[int, dict[str, str], bytes]:
            # Real servers say who asked and what was signed: nothing of it may reach a message of ours.
            asked = f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign>"
            text = f"<Error><Code>{code}</Code><Message>refused {SECRET}</Message>{asked}</Error>"
            return status, {"Content-Type": "application/xml"}, b"" if self.command == "HEAD" else text.encode()

    return Handler
