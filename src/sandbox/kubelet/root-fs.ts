// The root file system of one container: directories and files prepared here, and the list of mounts that the
// container's launcher makes in its own mount namespace.
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { RootPlan } from "./root-plan.ts";

export interface Mount {
  readonly source: string;
  /** Path inside the container. */
  readonly target: string;
  readonly readOnly: boolean;
  /** Mount what is mounted below the source, too. */
  readonly recursive?: boolean;
}

export interface RootOptions {
  readonly plan: RootPlan;
  /** Unique directory below the plan's base; made here, removed by {@link RootFs.remove}. */
  readonly directory: string;
  readonly readOnly: boolean;
  /** Leaves /proc/sys writable. */
  readonly privileged: boolean;
  /** The node's /dev for containers, see {@link DEV_ENTRIES}. */
  readonly dev: string;
  readonly mounts: readonly Mount[];
  /** Files of the container's own layer: path to content. */
  readonly files: Readonly<Record<string, string>>;
  /** Directories that must exist, such as the working directory. */
  readonly directories: readonly string[];
  /** Absolute host paths that no container may see (the sandbox's own state). */
  readonly hidden: readonly string[];
}

/** Host directories that a program may expect to add to; rootless, their owner is nobody the container knows. */
const WRITABLE = ["/var/cache", "/var/lib", "/var/log", "/var/tmp", "/usr/local"];

/** A file has content of its own; a mount point only needs to exist. */
type Place = "directory" | "mount point" | "file";

/** Where host directories are that could not get a writable layer but needed a new entry. */
const HOST_VIEW = "/.sandbox/host";

export class RootFs {
  readonly root: string;
  readonly #options: RootOptions;
  readonly #kinds: ReadonlyMap<string, "link" | "overlay" | "bind" | "file">;
  readonly #binds = new Map<string, string>();
  readonly #farmed = new Set<string>();
  readonly #mounted: { target: string; source: string; directory: boolean }[] = [];
  readonly #lines: string[] = [];

  constructor(options: RootOptions) {
    this.#options = options;
    this.root = join(options.directory, "root");
    this.#kinds = new Map(options.plan.entries.map((entry) => [entry.name, entry.kind]));
    this.#prepare();
  }

  /** The mounts in the form of fstab(5), for `mount --all --fstab`. */
  fstab(): string {
    return `${this.#lines.join("\n")}\n`;
  }

  remove(): void {
    rmSync(this.#options.directory, { recursive: true, force: true });
  }

  #prepare(): void {
    const { plan, directory } = this.#options;
    mkdirSync(this.root, { recursive: true });
    chmodSync(this.root, 0o755);
    for (const name of ["proc", "sys", "dev", "run", "tmp", "root", ".sandbox"]) {
      mkdirSync(join(this.root, name));
    }
    chmodSync(join(this.root, "tmp"), 0o1777);
    chmodSync(join(this.root, "root"), 0o700);
    for (const entry of plan.entries) {
      const path = join(this.root, entry.name);
      if (entry.kind === "link") symlinkSync(entry.target!, path);
      else if (entry.kind === "file") writeFileSync(path, "");
      else mkdirSync(path);
      if (entry.kind === "bind" || entry.kind === "file") this.#binds.set(`/${entry.name}`, `/${entry.name}`);
      if (entry.kind === "overlay") {
        for (const layer of ["upper", "work"])
          mkdirSync(join(directory, layer, entry.name), { recursive: true });
        mirrorMode(`/${entry.name}`, join(directory, "upper", entry.name));
      }
    }
    for (const path of WRITABLE) {
      if (this.#kinds.get(path.split("/")[1]!) === "overlay") this.#mirror(path);
    }
    for (const path of this.#options.directories) this.#place(this.#resolve(path), "directory");
    for (const [path, content] of Object.entries(this.#options.files)) {
      writeFileSync(this.#place(this.#resolve(path), "file"), content);
    }
    const mounts = [...this.#options.mounts].sort((a, b) => depth(a.target) - depth(b.target));
    const volumeLines = mounts.map((mount) => this.#mount(mount));
    this.#write(volumeLines);
  }

  #write(volumeLines: readonly string[]): void {
    const { plan, directory, dev, hidden, privileged, readOnly } = this.#options;
    const lines = this.#lines;
    const ro = readOnly ? ",ro" : "";
    lines.push(line(this.root, this.root, "none", `bind${ro}`));
    for (const { name, kind } of plan.entries) {
      if (kind !== "overlay") continue;
      const layers = `lowerdir=/${name},upperdir=${directory}/upper/${name},workdir=${directory}/work/${name}`;
      lines.push(line("overlay", `${this.root}/${name}`, "overlay", `${plan.overlayOptions}${layers}${ro}`));
    }
    for (const [target, source] of this.#binds) {
      lines.push(line(source, this.root + target, "none", "rbind,ro"));
    }
    for (const path of hidden) {
      const top = `/${path.split("/")[1]}`;
      if (!this.#kinds.has(top.slice(1))) continue;
      const at = this.#farmed.has(top) ? HOST_VIEW + path : path;
      lines.push(line("tmpfs", this.root + at, "tmpfs", "ro,size=4k,mode=000"));
    }
    lines.push(line("proc", `${this.root}/proc`, "proc", "nosuid,nodev,noexec"));
    if (!privileged) {
      lines.push(line("/proc/sys", `${this.root}/proc/sys`, "none", "bind,ro"));
      // Not every kernel has it.
      if (existsSync("/proc/sysrq-trigger")) {
        lines.push(line("/dev/null", `${this.root}/proc/sysrq-trigger`, "none", "bind"));
      }
    }
    if (plan.ownSysfs) lines.push(line("sysfs", `${this.root}/sys`, "sysfs", "ro,nosuid,nodev,noexec"));
    else lines.push(line("/sys", `${this.root}/sys`, "none", "rbind,ro"));
    lines.push(line(dev, `${this.root}/dev`, "none", "rbind"));
    lines.push(...volumeLines);
  }

  #mount(mount: Mount): string {
    const directory = statSync(mount.source).isDirectory();
    const target = this.#resolve(mount.target);
    const place = this.#place(target, directory ? "directory" : "mount point");
    if (!directory && !existsSync(place) && existsSync(dirname(place))) writeFileSync(place, "");
    this.#mounted.push({ target, source: mount.source, directory });
    const bind = mount.recursive ? "rbind" : "bind";
    return line(mount.source, this.root + target, "none", mount.readOnly ? `${bind},ro` : bind);
  }

  /** The path with symbolic links of the host's directories followed, as the container will see them. */
  #resolve(path: string): string {
    let rest = path.split("/").filter((part) => part !== "" && part !== ".");
    let done: string[] = [];
    for (let followed = 0; rest.length > 0; ) {
      const [part, ...tail] = rest as [string, ...string[]];
      rest = tail;
      if (part === "..") {
        done.pop();
        continue;
      }
      const here = [...done, part];
      const link = this.#isFromHost(here) && followed < 40 ? linkTarget(`/${here.join("/")}`) : undefined;
      if (link === undefined) done = here;
      else {
        followed += 1;
        if (link.startsWith("/")) done = [];
        rest = [...link.split("/").filter((each) => each !== "" && each !== "."), ...rest];
      }
    }
    return `/${done.join("/")}`;
  }

  #isFromHost(parts: readonly string[]): boolean {
    const path = `/${parts.join("/")}`;
    return this.#kinds.has(parts[0]!) && !this.#mounted.some((mount) => within(path, mount.target));
  }

  /**
   * Makes sure that `path` can be made: a directory, or a file's parent. Returns where it is now, outside of the
   * container.
   */
  #place(path: string, what: Place): string {
    const parent = what === "directory" ? path : dirname(path);
    const cover = this.#mounted.findLast((mount) => within(path, mount.target));
    const top = path.split("/")[1]!;
    const kind = this.#kinds.get(top);
    let place: string;
    if (cover?.directory) place = cover.source + path.slice(cover.target.length);
    else if (top === "dev") place = this.#options.dev + path.slice(4);
    else if (kind === "overlay") {
      place = join(this.#options.directory, "upper", path);
      this.#mirror(parent);
    } else {
      place = this.root + path;
      if (kind === "bind") {
        if (!hostHas(path, what)) this.#farm(parent);
        // Without a new entry the host's own directory will be there.
        else if (this.#binds.has(`/${top}`)) return place;
      }
      if (isLink(place)) rmSync(place);
    }
    mkdirSync(what === "directory" ? place : dirname(place), { recursive: true });
    return place;
  }

  /** Upper directories with the modes of what they merge with. */
  #mirror(path: string): void {
    const parts = path.split("/").filter((part) => part !== "");
    for (let i = 2; i <= parts.length; i++) {
      const at = `/${parts.slice(0, i).join("/")}`;
      const upper = join(this.#options.directory, "upper", at);
      if (existsSync(upper)) continue;
      mkdirSync(upper);
      mirrorMode(at, upper);
    }
  }

  /** Replaces a bound directory, and those above it, by real ones with links to everything the host has there. */
  #farm(path: string): void {
    const parts = path.split("/").filter((part) => part !== "");
    const top = `/${parts[0]}`;
    if (this.#binds.has(top)) {
      this.#binds.delete(top);
      this.#binds.set(HOST_VIEW + top, top);
      mkdirSync(this.root + HOST_VIEW + top, { recursive: true });
    }
    for (let i = 1; i <= parts.length; i++) {
      const at = `/${parts.slice(0, i).join("/")}`;
      if (this.#farmed.has(at)) continue;
      this.#farmed.add(at);
      const place = this.root + at;
      if (isLink(place)) rmSync(place);
      mkdirSync(place, { recursive: true });
      if (!existsSync(at)) continue;
      for (const name of readdirSync(at)) symlinkSync(`${HOST_VIEW}${at}/${name}`, join(place, name));
    }
  }
}

function line(source: string, target: string, type: string, options: string): string {
  return `${escapeField(source)} ${escapeField(target)} ${type} ${escapeField(options)} 0 0`;
}

function escapeField(text: string): string {
  return text.replace(/[\s\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function depth(path: string): number {
  return path.split("/").filter((part) => part !== "").length;
}

function within(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

function linkTarget(path: string): string | undefined {
  try {
    return isLink(path) ? readlinkSync(path) : undefined;
  } catch {
    return undefined; // not ours to read: then the container cannot follow it either
  }
}

/** Whether the host's own file system already offers it. */
function hostHas(path: string, what: Place): boolean {
  if (what === "file") return false;
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return what === "directory" ? (stat?.isDirectory() ?? false) : (stat?.isFile() ?? false);
}

function mirrorMode(from: string, to: string): void {
  const stat = lstatSync(from, { throwIfNoEntry: false });
  chmodSync(to, stat?.isDirectory() ? stat.mode & 0o7777 : 0o755);
}
