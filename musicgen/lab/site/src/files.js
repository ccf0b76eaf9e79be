// The large files: loaded once, with progress, and kept in the browser's cache.

/** Return the files {name: bytes} as ArrayBuffers; `report(share, text)` is told how far it is. */
export async function fetchFiles(sizes, version, report) {
  const cache = await openCache(version);
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  const files = {};
  let done = 0;
  for (const name of Object.keys(sizes)) {
    const kept = await cache?.match(name);
    const response = kept ?? await fetch(name);
    if (!response.ok) throw new Error(`${name} could not be loaded (${response.status}).`);
    if (!kept) await cache?.put(name, response.clone());
    files[name] = await readAll(response, (n) => {
      done += n;
      report(done / total, `Loading: ${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
    });
  }
  return files;
}

/** Open the cache of this version and delete older ones; null where pages have no cache, as over plain http. */
async function openCache(version) {
  if (!globalThis.caches) return null;
  const name = `musicgen-${version}`;
  for (const old of await caches.keys()) if (old.startsWith("musicgen-") && old !== name) await caches.delete(old);
  return caches.open(name);
}

async function readAll(response, count) {
  const chunks = [];
  for await (const chunk of iterate(response.body.getReader())) {
    chunks.push(chunk);
    count(chunk.length);
  }
  return new Blob(chunks).arrayBuffer();
}

async function* iterate(reader) { // not every browser can loop over a stream itself
  for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
}
