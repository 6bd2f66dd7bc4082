// Keeps the house of the design standing: who may import whom, and which packages live in which room.
import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../src/util/package-root.ts";

const test = suite("architecture");
const source = join(packageRoot(), "src");

/** The layers, lowest first; rooms of one layer do not import each other. */
const LAYERS = [
  ["util", "log", "metrics", "schema"],
  ["api", "http2", "crds"],
  ["rules", "pki"],
  ["kube"],
  ["inject", "manifests"],
  ["controller", "checks", "viz", "sandbox"],
  ["tui", "cli"],
  ["commands"],
  ["entry"],
];
/** Rooms of one layer that may use each other, because one is the other's material. */
const NEIGHBOURS: Record<string, string[]> = {
  util: ["log", "metrics"],
  log: ["util"],
  schema: ["util"],
  metrics: ["util"],
  rules: ["pki"],
  // The control plane is injected like any pod; names and values are what injection is made from.
  manifests: ["inject"],
  inject: ["manifests"],
  tui: ["cli"],
  cli: ["tui"],
};
/** What runs in application pods. */
const POD_ROOMS = ["proxy", "proxy-init", "proxy-await", "network-validator"];
const PROXY_MAY_USE = ["util", "log", "metrics", "api", "http2", "rules", "pki"];
/** The demo application knows nothing of the mesh. */
const DEMO_MAY_USE = ["util"];

/** Packages and the rooms that may import their values. */
const PACKAGE_ROOMS: [RegExp, string[]][] = [
  [/^@kubernetes\/client-node/, ["kube"]],
  [/^(react|ink)($|\/)/, ["tui"]],
  [/^node-forge/, ["pki"]],
  [/^@oclif\//, ["commands", "cli"]],
  [/^koffi/, ["proxy"]],
  [/^dns-packet/, ["sandbox"]],
];

interface Import {
  readonly file: string;
  readonly room: string;
  readonly target: string;
  readonly typeOnly: boolean;
}

function imports(): Import[] {
  const found: Import[] = [];
  for (const entry of readdirSync(source, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.tsx?$/.test(entry.name) || entry.name.endsWith(".d.ts")) continue;
    const path = join(entry.parentPath, entry.name);
    const file = relative(source, path);
    const text = readFileSync(path, "utf8").replace(/^\s*\/\/.*$/gm, "");
    for (const match of text.matchAll(
      /(?:^|\n)\s*(?:import|export)\s+(type\s+)?(?:[^;"'`]*?\sfrom\s+)?"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g,
    )) {
      const target = (match[2] ?? match[3]) as string;
      found.push({
        file,
        room: file.split("/")[0] as string,
        target: target.startsWith(".") ? relative(source, join(dirname(path), target)) : target,
        typeOnly: match[1] !== undefined,
      });
    }
  }
  return found;
}

const all = imports();
const inside = all.filter((i) => i.target.endsWith(".ts") || i.target.endsWith(".tsx"));
const layerOf = (room: string) => LAYERS.findIndex((layer) => layer.includes(room));

function mayUse(from: string, to: string): boolean {
  if (from === to) return true;
  if (POD_ROOMS.includes(from)) return PROXY_MAY_USE.includes(to);
  if (from === "demo") return DEMO_MAY_USE.includes(to);
  if (POD_ROOMS.includes(to) || to === "demo")
    return from === "entry" || (to === "demo" && from === "commands");
  if (NEIGHBOURS[from]?.includes(to)) return true;
  return layerOf(from) > layerOf(to) && layerOf(to) >= 0;
}

test("a room imports only what is below it", () => {
  const wrong = inside
    .filter((i) => !mayUse(i.room, i.target.split("/")[0] as string))
    .map((i) => `${i.file} imports ${i.target}`);
  assert.equal(wrong, []);
});

test("commands do not import each other", () => {
  const wrong = inside.filter(
    (i) => i.room === "commands" && i.target.startsWith("commands/") && !i.file.startsWith("commands/viz/"),
  );
  assert.equal(
    wrong.map((i) => `${i.file} imports ${i.target}`),
    [],
  );
});

test("the proxy's rooms follow the request and nothing reaches back", () => {
  const order = ["transport", "detect", "http1", "http2", "balance", "telemetry"];
  const wrong = inside.filter((i) => {
    const [from, to] = [i.file.split("/"), i.target.split("/")];
    if (from[0] !== "proxy" || to[0] !== "proxy" || from.length < 3 || to.length < 3) return false;
    return (
      order.includes(from[1]!) && ["inbound", "outbound", "control", "admin", "identity"].includes(to[1]!)
    );
  });
  assert.equal(
    wrong.map((i) => `${i.file} imports ${i.target}`),
    [],
  );
});

test("a package's values are imported only in its room", () => {
  const wrong = all.filter(
    (i) =>
      !i.typeOnly && PACKAGE_ROOMS.some(([name, rooms]) => name.test(i.target) && !rooms.includes(i.room)),
  );
  assert.equal(
    wrong.map((i) => `${i.file} imports ${i.target}`),
    [],
  );
});

test("the proxy depends on koffi and Node alone", () => {
  const wrong = all.filter(
    (i) =>
      POD_ROOMS.includes(i.room) &&
      !i.target.endsWith(".ts") &&
      !i.target.startsWith("node:") &&
      !builtinModules.includes(i.target) &&
      i.target !== "koffi",
  );
  assert.equal(
    wrong.map((i) => `${i.file} imports ${i.target}`),
    [],
  );
});

test.run();
