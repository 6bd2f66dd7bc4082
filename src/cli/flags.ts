// Flags that commands share, named as kubectl names them.
import { Flags } from "@oclif/core";
import type { OutputFormat } from "./output.ts";

/** Flags of commands that talk to a cluster. */
export const clusterFlags = {
  kubeconfig: Flags.string({
    helpGroup: "GLOBAL",
    helpValue: "FILE",
    summary: "Path of the kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config.",
  }),
  context: Flags.string({
    helpGroup: "GLOBAL",
    helpValue: "NAME",
    summary: "Name of the kubeconfig context to use.",
  }),
  as: Flags.string({ helpGroup: "GLOBAL", helpValue: "USER", summary: "User to impersonate." }),
  "as-group": Flags.string({
    helpGroup: "GLOBAL",
    helpValue: "GROUP",
    multiple: true,
    multipleNonGreedy: true,
    summary: "Group to impersonate; may be repeated.",
  }),
  "mesh-namespace": Flags.string({
    char: "L",
    default: "mesh-system",
    env: "MESH_NAMESPACE",
    helpGroup: "GLOBAL",
    helpValue: "NAMESPACE",
    summary: "Namespace of the control plane.",
  }),
};

export const verboseFlag = {
  verbose: Flags.boolean({ helpGroup: "GLOBAL", summary: "Say more on stderr; show stack traces of bugs." }),
};

export const namespaceFlag = {
  namespace: Flags.string({
    char: "n",
    helpValue: "NAMESPACE",
    summary: "Namespace to look in. Default: the context's.",
  }),
};

export const allNamespacesFlag = {
  "all-namespaces": Flags.boolean({
    char: "A",
    exclusive: ["namespace"],
    summary: "Look in all namespaces.",
  }),
};

export const selectorFlag = {
  selector: Flags.string({
    char: "l",
    helpValue: "SELECTOR",
    summary: "Label selector, such as app=web,tier!=cache.",
  }),
};

/** `-o` with the formats a command has; the first is the default. */
export function outputFlag<const F extends OutputFormat>(formats: readonly [F, ...F[]]) {
  return {
    output: Flags.option({
      char: "o",
      default: formats[0] as F,
      options: formats as readonly F[],
      summary: "Output format.",
    })(),
  };
}
