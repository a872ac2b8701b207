"""Has a headless Chromium compile every .wgsl file of a folder, and some that it must refuse.

    python3 tests/chromium/compile.py FOLDER

Chromium's compiler (Tint) is the one that web users get, and its rules are stricter than naga's, above all on barriers. The
page of this folder does the compiling, a web server on the loopback interface hands it the shaders and takes the result:
WebGPU wants a secure context, and this needs nothing but Python's standard library. CHROMIUM names another browser.
"""

import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
SECONDS = 900
FLAGS = [
    "--headless", "--no-sandbox", "--enable-unsafe-webgpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def serve(shaders, results):
    """A server for the page; what it posts goes into the queue."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/":
                self.answer("text/html", (HERE / "compile.html").read_bytes())
            elif self.path == "/shaders.json":
                self.answer("application/json", json.dumps(shaders).encode())
            else:
                self.send_error(404)

        def do_POST(self):
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer("text/plain", b"thank you")

        def answer(self, kind, body):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def browse(browser, url, results):
    """What the page posts, or an exit if it posts nothing."""
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryFile() as log:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", url]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return results.get(timeout=SECONDS)
        except queue.Empty:
            log.seek(0)
            sys.exit(f"{browser} gave no result in {SECONDS} s:\n{log.read().decode(errors='replace')[-4000:]}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read(folder):
    return {path.stem: path.read_text() for path in sorted(pathlib.Path(folder).glob("*.wgsl"))}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wanted, refused = read(sys.argv[1]), read(HERE / "refused")
    if not wanted or not refused:
        sys.exit(f"no .wgsl files in {sys.argv[1] if not wanted else HERE / 'refused'}")
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        sys.exit("no chromium found; install it (Debian: apt-get install chromium) or set CHROMIUM")
    results = queue.Queue()
    server = serve({**wanted, **{f"refused/{name}": text for name, text in refused.items()}}, results)
    result = browse(browser, f"http://127.0.0.1:{server.server_port}/", results)
    server.shutdown()
    if "failure" in result:
        sys.exit(f"{browser}: {result['failure']}")

    errors = result["errors"]
    wrong = [f"{name}: {'; '.join(errors[name])}" for name in wanted if errors[name]]
    wrong += [f"refused/{name}: was accepted, though it is wrong" for name in refused if not errors[f"refused/{name}"]]
    adapter = result["adapter"] or "an unnamed adapter"
    print(f"{len(wanted)} shaders compiled, {len(refused)} to be refused, on {adapter}")
    for feature in sorted(set(result["without"].values())):
        names = [name for name, missing in result["without"].items() if missing == feature]
        print(f"{len(names)} of them left out: {adapter} is without {feature}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
