/** Keeps the files of the page, so that it works without a network from the second visit on. */

const SITE = "site.json";
const OURS = `edgecnn ${self.registration.scope} `; // other pages of this host have caches of their own

/** Keep the files of an export, and drop those of the earlier one. */
async function keep(site) {
  const name = OURS + site.version;
  const cache = await caches.open(name);
  if (!(await cache.match(SITE))) await cache.addAll([...site.files, SITE, "./"]); // all of them or none
  for (const other of await caches.keys()) if (other.startsWith(OURS) && other !== name) await caches.delete(other);
}

/** The file that was kept, if there is one. */
async function kept(request) {
  for (const name of await caches.keys()) {
    const found = name.startsWith(OURS) && (await (await caches.open(name)).match(request, { ignoreSearch: true }));
    if (found) return found;
  }
  return undefined;
}

/** The network first, so that a new export is seen at once; then what was kept. */
async function answer(event) {
  const { request } = event;
  try {
    const found = await fetch(request);
    if (found.ok && request.url === new URL(SITE, self.registration.scope).href) {
      event.waitUntil(found.clone().json().then(keep));
    }
    return found;
  } catch (error) {
    const copy = await kept(request);
    if (copy) return copy;
    throw error;
  }
}

self.addEventListener("install", (event) => {
  const first = async () => {
    await keep(await (await fetch(SITE, { cache: "no-store" })).json());
    await self.skipWaiting();
  };
  event.waitUntil(first());
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const isOurs = event.request.method === "GET" && new URL(event.request.url).origin === self.location.origin;
  if (isOurs) event.respondWith(answer(event));
});
