// The large files: loaded once, with progress, and kept in the browser's cache.

/** Return the files {name: bytes} as ArrayBuffers; `report(share, text)` is told how far it is. */
export async function fetchFiles(sizes, version, report) {
  const cache = await openCache(version);
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  const files = {};
  let done = 0;
  const count = (chunk, output) => {
    done += chunk.length;
    report(done / total, `Loading: ${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
    output.enqueue(chunk);
  };
  for (const name of Object.keys(sizes)) {
    const kept = await cache?.match(name);
    const response = kept ?? await fetch(name);
    if (!response.ok) throw new Error(`${name} could not be loaded (${response.status}).`);
    const counted = response.body.pipeThrough(new TransformStream({ transform: count }));
    files[name] = await new Response(counted).arrayBuffer();
    if (!kept) await cache?.put(name, new Response(files[name]));
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
