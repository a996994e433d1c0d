#!/usr/bin/env python3
"""Sends large files to the example `upload`, and fetches them with the example `download`.

    files.py UPLOAD DOWNLOAD        files.py target/release/examples/upload target/release/examples/download
"""

import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
import tempfile

import websockets.exceptions
import websockets.sync.client

from process import checked_server, exit_on_sigterm
from report import Report, expect, expect_equal

SIZE = 100_000_007  # no multiple of anything
CHUNK = 256 << 10  # in a frame
MEMORY = 8 << 20  # what the server may take more
BLOCK = b"".join(n.to_bytes(3, "big") for n in range(30_011))


def content(size, begin=0):
    """The bytes of a file from `begin` on, in chunks."""
    for offset in range(begin, size, CHUNK):
        end = min(offset + CHUNK, size)
        skip = offset % len(BLOCK)
        yield (BLOCK * ((skip + end - offset) // len(BLOCK) + 1))[skip : skip + end - offset]


def sha256_of_content(size):
    digest = hashlib.sha256()
    for chunk in content(size):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Uploader:
    """A connection that uploads."""

    def __init__(self, server):
        url = f"{server.url}/upload"
        # Without a bound, so that the acknowledgements are read while it sends.
        self.client = websockets.sync.client.connect(url, proxy=None, legacy=True, max_queue=None)

    def tell(self, **command):
        self.client.send(json.dumps(command))

    def begin(self, size, name="film.mp4"):
        self.tell(type="begin", name=name, size=size)
        return self.answer("ready")["id"]

    def answer(self, kind):
        """The next answer that is no acknowledgement."""
        while True:
            answer = json.loads(self.client.recv(timeout=20))
            if answer["type"] != "received" or kind == "received":
                expect_equal(answer["type"], kind, "the type of the answer")
                return answer

    def refused(self, code):
        """The server closes the connection with this code; returns the reason."""
        try:
            while True:
                self.client.recv(timeout=10)
        except websockets.exceptions.ConnectionClosed as closed:
            expect(closed.rcvd is not None, f"no close frame: {closed}")
            expect_equal(closed.rcvd.code, code, "the close code")
            return closed.rcvd.reason

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


def upload(server, size):
    """Uploads a file in one message; returns its id."""
    with Uploader(server) as uploader:
        id = uploader.begin(size)
        uploader.client.send(content(size))
        done = uploader.answer("done")
        expect_equal(done["sha256"], sha256_of_content(size), "the checksum")
        expect_equal((done["id"], done["size"], done["name"]), (id, size, "film.mp4"), "what the server says")
        return id


class Part:
    """A client that fetches a part of a file, and has it where the example `download` looks for it."""

    def __init__(self, server, id, path, size):
        self.path = None
        with websockets.sync.client.connect(f"{server.url}/files/{id}", proxy=None, legacy=True, max_size=None) as client:
            said = json.loads(client.recv(timeout=10))
            self.path = f"{path}.{said['sha256']}.part"
            client.send(json.dumps({"type": "send", "from": 0}))
            with open(self.path, "wb") as file:
                for chunk in client.recv_streaming():
                    file.write(chunk[: size - file.tell()])
                    if file.tell() == size:
                        break
            client.socket.close()  # the rest is for nobody


def download(binary, url, path):
    """Runs the example; returns its status, the last line of its output and of its errors, and the memory it took at most."""
    with subprocess.Popen(
        [binary, url, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        peak = 0
        while True:
            try:
                out, errors = process.communicate(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                with open(f"/proc/{process.pid}/status") as file:
                    peaks = [line.split()[1] for line in file if line.startswith("VmHWM")]
                peak = max([peak, *(int(kilobytes) * 1024 for kilobytes in peaks)])
        return process.returncode, out.strip(), errors.strip().split("\n")[-1], peak


def large_files(report, server, store, downloader, directory):
    id = None
    before = server.status()["VmRSS"]

    def expect_little_memory():
        grown = server.status()["VmHWM"] - before
        expect(grown < MEMORY, f"the server took {grown} bytes more at its peak")
        print(f"   (at its peak the server took {grown >> 10} KiB more than at its start)", flush=True)

    with report.check("files/100-MB-in-one-message-with-the-checksum", 120):
        id = upload(server, SIZE)
    if id is None:
        return
    with report.check("files/is-on-the-disk", 60):
        expect_equal(sorted(name for name in os.listdir(store)), [id, f"{id}.json"], "the files")
        expect_equal(os.path.getsize(f"{store}/{id}"), SIZE, "the size")
        expect_equal(sha256_of_file(f"{store}/{id}"), sha256_of_content(SIZE), "the checksum")
    with report.check("files/upload-takes-little-memory"):
        expect_little_memory()
    with report.check("files/download-has-all-of-it", 120):
        path = f"{directory}/film"
        status, out, errors, peak = download(downloader, f"{server.url}/files/{id}", path)
        expect_equal((status, out), (0, sha256_of_content(SIZE)), f"the end of the client ({errors})")
        expect_equal(sha256_of_file(path), sha256_of_content(SIZE), "the checksum of the file")
        expect_equal(os.listdir(directory), ["film", "store"], "the files: no part")
        expect(0 < peak < 32 << 20, f"the client took {peak} bytes")
    with report.check("files/a-client-that-does-not-read-takes-little-memory", 120):
        url = f"{server.url}/files/{id}"
        with websockets.sync.client.connect(url, proxy=None, legacy=True, max_queue=1, max_size=None) as slow:
            expect_equal(json.loads(slow.recv(timeout=10))["size"], SIZE, "what the server says")
            slow.send(json.dumps({"type": "send", "from": 0}))
            status, out, errors, _ = download(downloader, url, path)
            expect_equal((status, out), (0, sha256_of_content(SIZE)), f"the end of another ({errors})")
            digest = hashlib.sha256()
            for chunk in slow.recv_streaming():
                digest.update(chunk)
            expect_equal(digest.hexdigest(), sha256_of_content(SIZE), "the checksum of what it reads at last")
        expect_little_memory()
    for size in [1, SIZE // 3, SIZE]:
        with report.check(f"files/download-goes-on-behind-{size}-bytes", 120):
            os.remove(path)
            part = Part(server, id, path, size)
            status, out, errors, _ = download(downloader, f"{server.url}/files/{id}", path)
            expect_equal((status, out), (0, sha256_of_content(SIZE)), f"the end of the client ({errors})")
            expect_equal(sha256_of_file(path), sha256_of_content(SIZE), "the checksum of the file")
            expect(not os.path.exists(part.path), "the part is still there")
            expect("are there already" in errors, errors)
    with report.check("files/a-wrong-part-is-noticed", 120):
        os.remove(path)
        part = Part(server, id, path, 1000)
        with open(part.path, "r+b") as file:
            file.write(b"changed")
        status, out, errors, _ = download(downloader, f"{server.url}/files/{id}", path)
        expect_equal((status, out), (1, ""), "the end of the client")
        expect("with the checksum" in errors, errors)
        status, out, errors, _ = download(downloader, f"{server.url}/files/{id}", path)
        expect_equal((status, out), (0, sha256_of_content(SIZE)), f"the end of the next ({errors})")
    with report.check("files/a-changed-file-is-noticed", 60):
        with open(f"{store}/{id}", "r+b") as file:
            file.seek(SIZE // 2)
            file.write(b"changed")
        os.remove(path)
        status, out, errors, _ = download(downloader, f"{server.url}/files/{id}", path)
        expect_equal((status, out), (1, ""), "the end of the client")
        expect("with the checksum" in errors, errors)
        expect_equal([name for name in os.listdir(directory) if name.startswith("film")], [], "files of the client")
    with report.check("files/a-file-that-is-not-there", 20):
        status, out, errors, _ = download(downloader, f"{server.url}/files/{'0' * 32}", path)
        expect_equal((status, out), (1, ""), "the end of the client")
        expect("4404" in errors and "there is no such file" in errors, errors)


def interruptions(report, server, store):
    size = 10_000_019
    with report.check("files/a-connection-that-breaks-inside-a-message", 60):
        first = Uploader(server)
        id = first.begin(size)

        def half():
            for offset, chunk in enumerate(content(size)):
                if offset * CHUNK > size // 2:
                    first.answer("received")
                    raise InterruptedError
                yield chunk

        try:
            first.client.send(half())
        except InterruptedError:
            pass
        first.client.socket.close()
        with Uploader(server) as second:
            second.tell(type="resume", id=id)
            offset = second.answer("ready")["offset"]
            expect(0 < offset < size, f"{offset} bytes were there")
            second.client.send(content(size, offset))
            expect_equal(second.answer("done")["sha256"], sha256_of_content(size), "the checksum")
        expect_equal(sha256_of_file(f"{store}/{id}"), sha256_of_content(size), "the checksum of the file")
    with report.check("files/a-complete-file-is-not-sent-again", 20):
        with Uploader(server) as uploader:
            uploader.tell(type="resume", id=id)
            expect_equal(uploader.answer("done")["sha256"], sha256_of_content(size), "the checksum")
    with report.check("files/another-connection-takes-over", 60):
        with Uploader(server) as stays, Uploader(server) as comes:
            id = stays.begin(3000)
            stays.client.send(b"x" * 1000)
            expect_equal(stays.answer("received")["offset"], 1000, "what is there")
            comes.tell(type="resume", id=id)
            expect_equal(comes.answer("ready")["offset"], 1000, "what is there")
            try:
                stays.client.recv(timeout=10)
                raise AssertionError("the first still has its connection")
            except websockets.exceptions.ConnectionClosed:
                pass
            comes.client.send([b"x" * 500, b"x" * 1500])
            expect_equal(comes.answer("done")["sha256"], hashlib.sha256(b"x" * 3000).hexdigest(), "the checksum")
    with report.check("files/twelve-at-once", 60):
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            ids = list(pool.map(lambda number: upload(server, 2_000_000 + number), range(12)))
        for number, id in enumerate(ids):
            expected = sha256_of_content(2_000_000 + number)
            expect_equal(sha256_of_file(f"{store}/{id}"), expected, f"the checksum of file {number}")
    with report.check("files/several-on-a-connection", 30):
        with Uploader(server) as uploader:
            for size in [0, 1, 70_000]:
                uploader.begin(size)
                if size > 0:
                    uploader.client.send(content(size))
                expect_equal(uploader.answer("done")["sha256"], sha256_of_content(size), "the checksum")


def refusals(report, server, store):
    def refuses(name, code, act):
        with report.check(f"files/refuses-{name}", 20):
            with Uploader(server) as uploader:
                act(uploader)
                uploader.refused(code)

    def more(uploader):
        uploader.begin(1000)
        uploader.client.send([b"x" * 1000, b"x"])

    def twice(uploader):
        uploader.begin(1000)
        uploader.tell(type="begin", name="another", size=1)

    before = set(os.listdir(store))
    refuses("content-before-a-command", 1008, lambda uploader: uploader.client.send(b"x"))
    refuses("a-path", 1008, lambda uploader: uploader.tell(type="resume", id=f"../{'0' * 29}"))
    refuses("an-unknown-file", 4404, lambda uploader: uploader.tell(type="resume", id="0" * 32))
    refuses("text-that-is-no-json", 1008, lambda uploader: uploader.client.send("begin"))
    refuses("a-long-command", 1008, lambda uploader: uploader.tell(type="begin", name="x" * 5000, size=1))
    refuses("a-negative-size", 1008, lambda uploader: uploader.tell(type="begin", name="x", size=-1))
    refuses("too-large-a-file", 1009, lambda uploader: uploader.tell(type="begin", name="x", size=1 << 50))
    refuses("a-second-file-before-the-first-is-complete", 1008, twice)
    refuses("to-abort-nothing", 1008, lambda uploader: uploader.tell(type="abort"))
    refuses("more-than-the-file-was-to-have", 1008, more)
    with report.check("files/refuses-to-send-from-behind-the-end", 20):
        id = upload(server, 1000)
        for command, reason in [({"from": 1001}, "not as large"), ({}, "from where on"), ({"from": -1}, "from where on")]:
            with websockets.sync.client.connect(f"{server.url}/files/{id}", proxy=None, legacy=True) as client:
                expect_equal(json.loads(client.recv(timeout=10))["size"], 1000, "what the server says")
                client.send(json.dumps({"type": "send"} | command))
                try:
                    client.recv(timeout=10)
                    raise AssertionError("it is sent")
                except websockets.exceptions.ConnectionClosed as closed:
                    expect_equal(closed.rcvd.code, 1008, "the close code")
                    expect(reason in closed.rcvd.reason, closed.rcvd.reason)
    with report.check("files/refuses-other-paths", 20):
        for path in ["/", "/files/", "/files/../upload", f"/files/{'0' * 31}/", f"/files/{'0' * 33}"]:
            try:
                websockets.sync.client.connect(server.url + path, proxy=None, legacy=True)
                raise AssertionError(f"{path} is accepted")
            except websockets.exceptions.InvalidStatus as error:
                expect_equal(error.response.status_code, 404, f"the status for {path}")
    with report.check("files/an-abort-removes-the-file", 20):
        with Uploader(server) as uploader:
            id = uploader.begin(1000)
            uploader.client.send(b"x")
            uploader.answer("received")
            expect(os.path.exists(f"{store}/{id}.part"), "the part is not there")
            uploader.tell(type="abort")
            uploader.answer("aborted")
            left = [name for name in os.listdir(store) if name.startswith(id)]
            expect_equal(left, [], "what is left")
            uploader.begin(0)
            uploader.answer("done")
    with report.check("files/no-other-names-are-on-the-disk"):
        names = set(os.listdir(store)) - before
        odd = [name for name in names if not all(c in "0123456789abcdef" for c in name.split(".")[0])]
        expect_equal(odd, [], "other names")


def quota(report, uploader, directory):
    """A server with room for 3,000 bytes, which finds 2,000 of them taken when it is started again."""
    store = f"{directory}/small"
    flags = ["--dir", store, "--max-size", "2500", "--max-total", "3000"]

    def refuses(server, size, code, why):
        with Uploader(server) as uploader:
            uploader.tell(type="begin", name="x", size=size)
            expect_equal(uploader.refused(code), why, "the reason")

    with checked_server(report, "files/quota", uploader, *flags) as server:
        with report.check("files/refuses-what-there-is-no-room-for", 20):
            refuses(server, 2501, 1009, "a file may have 2500 bytes")
            with Uploader(server) as first:
                first.begin(2000)
                refuses(server, 1001, 4507, "the server has room for 1000 bytes")
                with Uploader(server) as second:
                    second.begin(1000)
                    refuses(server, 1, 4507, "the server has room for 0 bytes")
                    second.tell(type="abort")
                    second.answer("aborted")
                    second.begin(1000)
                    second.tell(type="abort")
                    second.answer("aborted")
    with checked_server(report, "files/quota-again", uploader, *flags) as server:
        with report.check("files/counts-what-was-there", 20):
            refuses(server, 1001, 4507, "the server has room for 1000 bytes")
            upload(server, 1000)
            refuses(server, 1, 4507, "the server has room for 0 bytes")


def main(uploader, downloader):
    exit_on_sigterm()
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        store = f"{directory}/store"
        with checked_server(report, "files", uploader, "--dir", store) as server:
            large_files(report, server, store, downloader, directory)
            interruptions(report, server, store)
            refusals(report, server, store)
        quota(report, uploader, directory)
    report.exit()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
