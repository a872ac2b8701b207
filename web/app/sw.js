// Keeps the page and the engine for use without a network. Models are never touched here: the engine has a cache of its own.
// The build puts the files and a hash of their contents in the place of these two names.

const FILES = __FILES__;
const CACHE = "moxel-page-__VERSION__";
/** Whoever hosts the page may change these without building it again. */
const CHANGING = ["models.json"];

const known = new Set(FILES.map((file) => new URL(file, self.registration.scope).href));
const changing = new Set(CHANGING.map((file) => new URL(file, self.registration.scope).href));

self.addEventListener("install", (event) => {
  // Past the browser's own cache: all files have to be of one version.
  const requests = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith("moxel-page-") && name !== CACHE).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

self.addEventListener("message", (event) => {
  if (event.data === "take-over") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const url = new URL(event.request.url);
  url.search = "";
  url.hash = "";
  if (!known.has(url.href)) return;
  event.respondWith(changing.has(url.href) ? newest(event.request, url.href) : kept(event.request, url.href));
});

async function kept(request, address) {
  const cache = await caches.open(CACHE);
  return (await cache.match(address)) ?? fetch(request);
}

async function newest(request, address) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(address, answer.clone());
    return answer;
  } catch {
    return (await cache.match(address)) ?? Response.error();
  }
}
