/** What the head of an answer says about the file behind it. */

/** What tells one content of a file from another. */
export interface Version {
  etag?: string;
  lastModified?: string;
}

export function versionOf(headers: Headers): Version {
  return { etag: headers.get("etag") ?? undefined, lastModified: headers.get("last-modified") ?? undefined };
}

/** Proxies turn a strong ETag into a weak one without changing the content. */
const opaque = (etag: string) => etag.replace(/^W\//, "");

/** Whether the other is certainly another content: mirrors may leave a header out, and disagree about dates. */
export function contradicts(one: Version, other: Version): boolean {
  if (one.etag !== undefined && other.etag !== undefined) return opaque(one.etag) !== opaque(other.etag);
  return one.lastModified !== undefined && other.lastModified !== undefined && one.lastModified !== other.lastModified;
}

/** Whether the two can be compared and are the same. */
export function matches(one: Version, other: Version): boolean {
  const comparable =
    (one.etag !== undefined && other.etag !== undefined) ||
    (one.lastModified !== undefined && other.lastModified !== undefined);
  return comparable && !contradicts(one, other);
}

/** The most telling of it; `undefined` if nothing would tell that the file has changed. */
export function versionText(version: Version): string | undefined {
  return version.etag ?? version.lastModified;
}

/** `Content-Range`: the bytes that an answer brings, none if it has none of those asked for, and the size of the file. */
export interface ContentRange {
  start?: number;
  end?: number;
  size?: number;
}

export function contentRange(headers: Headers): ContentRange | undefined {
  const parts = /^bytes (?:(\d+)-(\d+)|\*)\/(?:(\d+)|\*)$/.exec(headers.get("content-range")?.trim() ?? "");
  if (parts === null) return undefined;
  const [start, last, size] = parts.slice(1).map((text) => (text === undefined ? undefined : Number(text)));
  if (start !== undefined && last !== undefined && last < start) return undefined;
  return { start, end: last === undefined ? undefined : last + 1, size };
}

/** The length of the body, if it was said in advance and is that of the file. */
export function contentLength(headers: Headers): number | undefined {
  const encoding = headers.get("content-encoding") ?? "identity";
  const length = headers.get("content-length") ?? "";
  return encoding === "identity" && /^\d+$/.test(length) ? Number(length) : undefined;
}

/** How many milliseconds the server asks to wait. */
export function retryAfter(headers: Headers, now = Date.now()): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (value === undefined || value === "") return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

/** Whether another attempt may bring another answer. */
export function isTemporary(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}
