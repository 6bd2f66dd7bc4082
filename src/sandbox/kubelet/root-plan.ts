// How a container's root is made out of the host's file system on this machine: each top-level directory with a
// private writable layer (overlayfs) where the kernel lets us, else bound read-only. Found out once, at start.
import { lstatSync, mkdirSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "../network/command.ts";

export interface HostEntry {
  /** Name in `/`. */
  readonly name: string;
  readonly kind: "link" | "overlay" | "bind" | "file";
  /** Of a symbolic link. */
  readonly target?: string;
}

export interface RootPlan {
  /** Where the containers' own layers live: must be able to be an overlay's upper directory. */
  readonly base: string;
  readonly entries: readonly HostEntry[];
  readonly overlayOptions: string;
  /** Whether a fresh sysfs may be mounted (else the host's is bound). */
  readonly ownSysfs: boolean;
}

/** Made fresh for every container, so never taken from the host. */
const OWN = new Set(["proc", "sys", "dev", "run", "tmp", "root", "lost+found"]);

const PROBE = `
mkdir -p "$1/upper" "$1/work" "$1/merged"
for name in $4; do
  if mount -t overlay -o "$3lowerdir=/$name,upperdir=$1/upper,workdir=$1/work" overlay "$1/merged" 2>/dev/null; then
    echo "$name"; umount "$1/merged"; rm -rf "$1/work"; mkdir "$1/work"
  fi
done
mkdir "$1/sysfs"
if mount -t sysfs sysfs "$1/sysfs" 2>/dev/null; then echo "/sysfs"; fi
exit 0
`;

/**
 * @param bases directories to keep container layers in, best first; the first that overlayfs accepts is taken.
 * Each must exist. Run inside the sandbox's namespaces.
 */
export async function planRoot(bases: readonly string[]): Promise<RootPlan> {
  const entries: HostEntry[] = [];
  const directories: string[] = [];
  for (const name of readdirSync("/")) {
    if (OWN.has(name) || /[\s,:\\]/.test(name)) continue;
    const stat = lstatSync(`/${name}`);
    if (stat.isSymbolicLink()) entries.push({ name, kind: "link", target: readlinkSync(`/${name}`) });
    else if (stat.isDirectory()) directories.push(name);
    else if (stat.isFile()) entries.push({ name, kind: "file" });
  }
  let best: { base: string; options: string; works: Set<string> } | undefined;
  for (const base of bases) {
    // Rootless, extended attributes of the overlay must be "user." ones; as root both work.
    for (const options of ["", "userxattr,"]) {
      const scratch = join(base, ".probe");
      rmSync(scratch, { recursive: true, force: true });
      mkdirSync(scratch, { recursive: true });
      const out = await runCommand("unshare", [
        "--mount",
        "sh",
        "-c",
        PROBE,
        "sh",
        scratch,
        base,
        options,
        directories.join(" "),
      ]);
      rmSync(scratch, { recursive: true, force: true });
      const works = new Set(out.split("\n").filter((line) => line !== ""));
      best ??= { base, options, works };
      if (works.has("usr")) return finish(entries, directories, base, options, works);
    }
  }
  return finish(entries, directories, best!.base, best!.options, best!.works);
}

function finish(
  entries: readonly HostEntry[],
  directories: readonly string[],
  base: string,
  overlayOptions: string,
  works: ReadonlySet<string>,
): RootPlan {
  const more = directories.map((name): HostEntry => ({ name, kind: works.has(name) ? "overlay" : "bind" }));
  return { base, entries: [...entries, ...more], overlayOptions, ownSysfs: works.has("/sysfs") };
}
