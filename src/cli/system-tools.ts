// The system tools that the sandbox uses: which are missing, and how to get them on Debian and its kin.
import { findProgram } from "./journey.ts";

export interface Tool {
  readonly program: string;
  /** Debian's name of the package. */
  readonly package: string;
  readonly why: string;
}

const TOOLS: readonly (Tool & { readonly rootless?: boolean })[] = [
  { program: "ip", package: "iproute2", why: "gives each pod its own network" },
  { program: "iptables", package: "iptables", why: "redirects pods' traffic to their proxies" },
  { program: "unshare", package: "util-linux", why: "makes namespaces" },
  {
    program: "newuidmap",
    package: "uidmap",
    why: "lets an ordinary user run pods under several user ids",
    rootless: true,
  },
];

/** Tools that this user needs and that `find` does not find. */
export function missingTools(options: {
  root: boolean;
  find?: (program: string) => string | undefined;
}): Tool[] {
  const find = options.find ?? findProgram;
  return TOOLS.filter((tool) => (!tool.rootless || !options.root) && find(tool.program) === undefined);
}

/** The command that installs them. */
export function installCommand(tools: readonly Tool[]): string {
  return `apt-get install -y ${[...new Set(tools.map((tool) => tool.package))].join(" ")}`;
}
