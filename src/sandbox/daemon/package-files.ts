// This package as containers see it at /app: readable by any user, with its dependencies beside it. Usually that is
// the installed package itself; where file modes or a shared node_modules forbid it, a copy.
import { chmodSync, cpSync, existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

/** Dependency that is not bundled, and the scope of its binaries. */
const DEPENDENCIES = ["koffi", "@koromix"];
const PARTS = ["package.json", "bin", "dist"];

/** The directory to mount at /app; `copy` is where a copy may be made. */
export function packageForContainers(root: string, copy: string): string {
  const modules = modulesOf(root);
  rmSync(copy, { recursive: true, force: true });
  if (modules === join(root, "node_modules") && isReadable(root)) return root;
  for (const part of PARTS) {
    if (existsSync(join(root, part))) {
      cpSync(join(root, part), join(copy, part), {
        recursive: true,
        dereference: true,
        filter: (path) => !path.endsWith(".map"),
      });
    }
  }
  for (const name of modules ? DEPENDENCIES : []) {
    const from = join(modules!, name);
    if (existsSync(from))
      cpSync(from, join(copy, "node_modules", name), { recursive: true, dereference: true });
  }
  openToAll(copy);
  return copy;
}

/** The node_modules that the dependency is found in. */
function modulesOf(root: string): string | undefined {
  try {
    const entry = createRequire(join(root, "package.json")).resolve(DEPENDENCIES[0]!);
    const end = entry.lastIndexOf(`${sep}node_modules${sep}`);
    return end < 0 ? undefined : entry.slice(0, end + 1 + "node_modules".length);
  } catch {
    return undefined; // not installed: the proxy will say so
  }
}

/** Whether every user may read what containers run. */
function isReadable(root: string): boolean {
  return ["dist/entry/proxy.js", "node_modules/koffi/package.json", "package.json"].every((file) => {
    const path = join(root, file);
    if (!existsSync(path)) return true;
    const isOpen = (each: string, bits: number) => (statSync(each).mode & bits) === bits;
    for (let at = dirname(path); at.startsWith(root); at = dirname(at)) if (!isOpen(at, 0o005)) return false;
    return isOpen(path, 0o004);
  });
}

function openToAll(path: string): void {
  const stat = statSync(path);
  if (!stat.isDirectory()) {
    chmodSync(path, stat.mode | 0o444);
    return;
  }
  chmodSync(path, stat.mode | 0o555);
  for (const name of readdirSync(path)) openToAll(join(path, name));
}
