// Where this package lives on disk, whether run from sources or from a bundle in dist/.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Absolute path of the directory that holds the package.json named kubectl-mesh. @throws Error when there is none. */
export function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = join(directory, "package.json");
    if (existsSync(file) && JSON.parse(readFileSync(file, "utf8")).name === "kubectl-mesh") return directory;
    const parent = dirname(directory);
    if (parent === directory) throw new Error("the kubectl-mesh package directory was not found");
    directory = parent;
  }
}
