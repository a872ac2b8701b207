// A server in memory that has every fault, in place of `fetch`.

/** Bytes whose value tells where they are. */
export function content(length) {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8) * 13 + (index >> 16)) & 255);
}

export class FakeServer {
  /** name: { bytes, etag?, lastModified? } */
  files = {};
  log = [];
  ranges = true;
  /** May answer instead: (request) => Response | undefined; may throw, as fetch does without a network. */
  fault = () => undefined;
  /** Bytes of a body after which it breaks off, taken one by one by answers; undefined: it does not. */
  breaks = [];
  inFlight = 0;
  mostInFlight = 0;

  fetch = async (url, { method = "GET", headers = {}, signal } = {}) => {
    const name = decodeURIComponent(new URL(url).pathname.slice(1));
    const range = headers.range;
    this.log.push({ method, name, range });
    this.mostInFlight = Math.max(this.mostInFlight, (this.inFlight += 1));
    try {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return (await this.fault({ method, name, range, signal })) ?? this.#answer(method, name, range);
    } finally {
      this.inFlight -= 1;
    }
  };

  #answer(method, name, range) {
    const file = this.files[name];
    if (file === undefined) return new Response("no", { status: 404, statusText: "Not Found" });
    const headers = new Headers();
    if (file.etag) headers.set("etag", file.etag);
    if (file.lastModified) headers.set("last-modified", file.lastModified);
    const size = file.bytes.length;
    let [start, end] = [0, size];
    const asked = this.ranges ? /^bytes=(\d+)-(\d+)$/.exec(range ?? "") : null;
    if (asked) {
      [start, end] = [Number(asked[1]), Math.min(Number(asked[2]) + 1, size)];
      if (start >= size) return new Response("", { status: 416, headers: { "content-range": `bytes */${size}` } });
      headers.set("content-range", `bytes ${start}-${end - 1}/${size}`);
    }
    headers.set("content-length", String(end - start));
    const body = method === "HEAD" ? null : this.#body(file.bytes.subarray(start, end));
    return new Response(body, { status: asked ? 206 : 200, headers });
  }

  #body(bytes) {
    const stop = this.breaks.shift() ?? Infinity;
    let at = 0;
    return new ReadableStream({
      pull(controller) {
        if (at >= stop) return controller.error(new TypeError("network error"));
        const end = Math.min(at + 50_000, bytes.length, stop);
        // A copy, as from a network: whoever changes it must not change the file.
        if (end > at) controller.enqueue(bytes.slice(at, end));
        at = end;
        if (at === bytes.length) controller.close();
      },
    });
  }
}
