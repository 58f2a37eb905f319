// Runs a k6 script once under Node, with stand-ins for k6's modules: what it sends and counts is real, k6 is not.
//     node run.mjs SCRIPT    (URL, WAV, TOKEN from the environment)

import { readFileSync, writeFileSync, mkdtempSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(resolve("clients/typescript/package.json"));
const counted = {};
class Metric {
  constructor(name) {
    this.values = counted[name] = [];
  }
  add(value, tags) {
    this.values.push(tags ? [Number(value), tags] : Number(value));
  }
}
globalThis.__ENV = process.env;
globalThis.open = (path) => {
  const data = readFileSync(path);
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
};
globalThis.k6 = {
  WebSocket: require("ws").WebSocket,
  Counter: Metric,
  Rate: Metric,
  Trend: Metric,
  exec: { vu: { idInTest: 1 } },
};
const script = readFileSync(process.argv[2], "utf8")
  .replace(/import exec from "k6\/execution";/, "const { exec } = globalThis.k6;")
  .replace(/import (\{[^}]*\}) from "k6\/\w+";/g, "const $1 = globalThis.k6;");
const module = join(mkdtempSync(join(tmpdir(), "k6-")), "script.mjs");
writeFileSync(module, script);
const { default: iterate, options } = await import(pathToFileURL(module));
iterate();
process.on("exit", () => console.log(JSON.stringify({ counted, options })));
