// Who a container runs as, and with which capabilities, from its security context.
import type { Json } from "../cluster.ts";
import { ConfigError } from "./environment.ts";
import type { Identity } from "./process.ts";

/** What container runtimes grant by default. */
const DEFAULT_CAPABILITIES = [
  "audit_write",
  "chown",
  "dac_override",
  "fowner",
  "fsetid",
  "kill",
  "mknod",
  "net_bind_service",
  "net_raw",
  "setfcap",
  "setgid",
  "setpcap",
  "setuid",
  "sys_chroot",
];

/** User and group of our own image, as its Dockerfile says. */
const MESH_IMAGE_USER = 2103;

/** Whether the image is this package's: it runs the package itself. */
export function isMeshImage(image: string): boolean {
  return /(^|\/)kubectl-mesh(:|@|$)/.test(image);
}

/** @throws ConfigError when runAsNonRoot forbids it. */
export function identityOf(podSpec: Json, container: Json): Identity {
  const pod = podSpec.securityContext ?? {};
  const own = container.securityContext ?? {};
  const uid: number =
    own.runAsUser ?? pod.runAsUser ?? (isMeshImage(container.image ?? "") ? MESH_IMAGE_USER : 0);
  const gid: number =
    own.runAsGroup ?? pod.runAsGroup ?? (isMeshImage(container.image ?? "") ? MESH_IMAGE_USER : 0);
  if ((own.runAsNonRoot ?? pod.runAsNonRoot) && uid === 0) {
    throw new ConfigError(
      `container has runAsNonRoot and image will run as root (container: ${JSON.stringify(container.name)}); set runAsUser`,
    );
  }
  const groups = [...(pod.supplementalGroups ?? []), ...(pod.fsGroup === undefined ? [] : [pod.fsGroup])];
  const noNewPrivileges = own.allowPrivilegeEscalation === false;
  if (own.privileged) return { uid, gid, groups, capabilities: "all", ambient: [], noNewPrivileges };
  const added = names(own.capabilities?.add);
  const dropped = names(own.capabilities?.drop);
  if (added.includes("all")) return { uid, gid, groups, capabilities: "all", ambient: [], noNewPrivileges };
  const kept = dropped.includes("all") ? [] : DEFAULT_CAPABILITIES.filter((name) => !dropped.includes(name));
  const capabilities = [...new Set([...kept, ...added])];
  // Without file capabilities a user other than root would not get what was asked for.
  return { uid, gid, groups, capabilities, ambient: uid === 0 ? [] : added, noNewPrivileges };
}

function names(list: readonly string[] | undefined): string[] {
  return (list ?? []).map((name) => name.toLowerCase().replace(/^cap_/, ""));
}
