// What the machine must offer before a sandbox can start: tools, and namespaces as this user.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { delimiter, join } from "node:path";
import { MeshError } from "../../util/error.ts";

/** Administrators' directories are missing from an ordinary user's PATH on Debian. */
export const TOOL_PATH = [
  process.env["PATH"] ?? "",
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
].join(delimiter);

/** Tool to the Debian package that has it. */
const TOOLS: Record<string, string> = {
  unshare: "util-linux",
  nsenter: "util-linux",
  setpriv: "util-linux",
  mount: "mount",
  pivot_root: "util-linux",
  mkfifo: "coreutils",
  ip: "iproute2",
  iptables: "iptables",
  "iptables-restore": "iptables",
};
const ROOTLESS_TOOLS: Record<string, string> = { newuidmap: "uidmap", newgidmap: "uidmap" };

export const isRoot = (): boolean => process.geteuid?.() === 0;

/** Arguments of unshare for the namespaces of a sandbox. */
export function namespaceFlags(): string[] {
  const own = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  return isRoot() ? own : ["--user", "--map-root-user", "--map-auto", ...own];
}

export interface MissingTools {
  readonly tools: readonly string[];
  /** Debian and Ubuntu packages. */
  readonly packages: readonly string[];
}

/** The tools that are not installed; empty lists when all are there. */
export function missingTools(path = TOOL_PATH, root = isRoot()): MissingTools {
  const wanted = root ? TOOLS : { ...TOOLS, ...ROOTLESS_TOOLS };
  const directories = path.split(delimiter).filter((directory) => directory !== "");
  const tools = Object.keys(wanted).filter(
    (name) => !directories.some((directory) => existsSync(join(directory, name))),
  );
  return { tools, packages: [...new Set(tools.map((name) => wanted[name]!))] };
}

/** The command that installs packages on Debian and Ubuntu. */
export function installCommand(packages: readonly string[], root = isRoot()): string {
  return `${root ? "" : "sudo "}apt-get install -y ${packages.join(" ")}`;
}

/** @throws MeshError that names what is missing and how to get it. */
export function checkRequirements(): void {
  if (process.platform !== "linux") {
    throw new MeshError("the sandbox needs Linux: its pods live in network namespaces", {
      hints: ["run it in a Linux virtual machine, or use a cluster such as kind or k3d"],
    });
  }
  const { tools, packages } = missingTools();
  if (tools.length > 0) {
    throw new MeshError(`${tools.join(", ")} ${tools.length === 1 ? "is" : "are"} not installed`, {
      hints: [`install: ${installCommand(packages)}`],
    });
  }
  if (!isRoot()) checkSubordinateIds();
  checkNamespaces();
}

function checkSubordinateIds(): void {
  const { username, uid } = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const owners = existsSync(file)
      ? readFileSync(file, "utf8")
          .split("\n")
          .map((line) => line.split(":")[0])
      : [];
    if (owners.includes(username) || owners.includes(String(uid))) continue;
    throw new MeshError(`user ${username} has no range of subordinate ids in ${file}`, {
      hints: [
        `give it one: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`,
        "or run the sandbox as root",
      ],
    });
  }
}

function checkNamespaces(): void {
  const result = spawnSync("unshare", [...namespaceFlags(), "true"], {
    env: { ...process.env, PATH: TOOL_PATH },
    encoding: "utf8",
    timeout: 15_000,
  });
  if (result.status === 0) return;
  throw namespaceError(result.stderr.trim(), isRoot(), (name) => {
    try {
      return readFileSync(`/proc/sys/${name}`, "utf8").trim();
    } catch {
      return undefined;
    }
  });
}

/** `sysctl` gives the value of a kernel switch such as `user/max_user_namespaces`, if it exists. */
export function namespaceError(
  said: string,
  root: boolean,
  sysctl: (name: string) => string | undefined,
): MeshError {
  const why = said.replace(/^unshare: /, "") || "unshare failed";
  if (root) {
    return new MeshError(`the kernel does not let root make namespaces here: ${why}`, {
      hints: ["inside a container, start it with all privileges: docker run --privileged …"],
    });
  }
  const hints: string[] = [];
  if (sysctl("kernel/unprivileged_userns_clone") === "0") {
    hints.push("allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1");
  }
  if (sysctl("kernel/apparmor_restrict_unprivileged_userns") === "1") {
    hints.push(
      "AppArmor restricts them (Ubuntu's default): sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    );
  }
  if (sysctl("user/max_user_namespaces") === "0") {
    hints.push("allow them: sudo sysctl -w user.max_user_namespaces=15000");
  }
  if (hints.length === 0) hints.push("inside a container, user namespaces need: docker run --privileged …");
  hints.push("or run the sandbox as root: sudo kubectl mesh sandbox up");
  return new MeshError(`the kernel does not let this user make namespaces: ${why}`, { hints });
}
