/** Keeps the files of the page, so that it works without a network from the second visit on. */

const SITE = "site.json";

async function cacheOf(site) {
  return caches.open(`edgecnn ${site.version}`);
}

self.addEventListener("install", (event) => {
  const keep = async () => {
    const site = await (await fetch(SITE, { cache: "no-store" })).json();
    await (await cacheOf(site)).addAll([...site.files, SITE, "./"]);
    await self.skipWaiting();
  };
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

/** The network first, so that a new export is seen at once; then what was kept. Only pages of this folder are kept. */
async function answer(request) {
  try {
    const found = await fetch(request);
    if (found.ok && new URL(request.url).pathname.endsWith(`/${SITE}`)) await update(found.clone());
    return found;
  } catch (error) {
    const kept = await caches.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

/** After a new export: keep its files, and drop those of the earlier one. */
async function update(found) {
  const site = await found.json();
  const name = `edgecnn ${site.version}`;
  if (!(await caches.has(name))) await (await cacheOf(site)).addAll([...site.files, SITE, "./"]);
  for (const other of await caches.keys()) if (other.startsWith("edgecnn ") && other !== name) await caches.delete(other);
}

self.addEventListener("fetch", (event) => {
  const isOurs = event.request.method === "GET" && new URL(event.request.url).origin === self.location.origin;
  if (isOurs) event.respondWith(answer(event.request));
});
