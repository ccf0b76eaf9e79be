// Bundle the page's scripts, and put them beside the files that they load: node build.mjs FOLDER
import { copyFileSync, mkdirSync } from "node:fs";
import { build } from "esbuild";

const out = process.argv[2];
mkdirSync(out, { recursive: true });
await build({
  entryPoints: ["src/main.js", "src/worker.js"],
  outdir: out,
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "linked",
  conditions: ["onnxruntime-web-use-extern-wasm"],
});
const FILES = {
  "node_modules/onnxruntime-web/dist": ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"],
  "node_modules/spessasynth_lib/dist": ["spessasynth_processor.min.js"],
  player: ["keyboard.css"],
  ".": ["index.html", "site.css"],
};
for (const [folder, names] of Object.entries(FILES)) {
  for (const name of names) copyFileSync(`${folder}/${name}`, `${out}/${name}`);
}
