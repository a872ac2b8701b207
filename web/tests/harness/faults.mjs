// What can go wrong on the way, for `site.fault`.

/** Breaks every connection for models once this many bytes of them were sent. */
export function cut({ after }) {
  let left = after;
  return (request, response) => {
    if (!request.url.startsWith("/models/")) return false;
    if (left <= 0) {
      request.socket.destroy();
      return true;
    }
    limit(response, (bytes) => {
      left -= bytes;
      if (left <= 0) request.socket.destroy();
    });
    return false;
  };
}

/** Leaves every request for models without an answer once this many bytes of them were sent. */
export function hold({ after }) {
  let left = after;
  return (request, response) => {
    if (!request.url.startsWith("/models/")) return false;
    if (left <= 0) return true;
    limit(response, (bytes) => {
      left -= bytes;
    });
    return false;
  };
}

/**
 * Breaks each of the first `times` large answers for models after half of its bytes. Small ones would break before a byte
 * arrives, and then browsers ask again without a word.
 */
export function stumble({ times }) {
  let left = times;
  return (request, response) => {
    if (!request.url.startsWith("/models/") || left <= 0 || request.method === "HEAD") return false;
    let total = 0;
    limit(response, (bytes) => {
      total += bytes;
      const length = Number(response.getHeader("Content-Length"));
      if (total > length / 2 && length > 100_000 && left > 0 && !request.socket.destroyed) {
        left -= 1;
        request.socket.destroy();
      }
    });
    return false;
  };
}

/** Answers 503 to the first `times` requests for models. */
export function busy({ times }) {
  let left = times;
  return (request, response) => {
    if (!request.url.startsWith("/models/") || left <= 0) return false;
    left -= 1;
    response.writeHead(503).end();
    return true;
  };
}

/** Pretends not to know a header of requests. */
export function without(header) {
  return (request, response) => {
    delete request.headers[header];
    if (header === "range") {
      const original = response.setHeader.bind(response);
      response.setHeader = (name, value) => (/^accept-ranges$/i.test(name) ? response : original(name, value));
    }
    return false;
  };
}

/** Tells `spent` of every piece of the body before it is sent. */
function limit(response, spent) {
  const original = response.write;
  response.write = (chunk, ...rest) => {
    spent(chunk.length);
    return original.call(response, chunk, ...rest);
  };
}
