// Flags that the sandbox commands share.
import { Flags } from "@oclif/core";

export const sandboxDirFlag = {
  dir: Flags.string({
    helpValue: "DIR",
    summary: "Where the sandbox keeps its state. Default: ~/.local/state/kubectl-mesh/sandbox.",
  }),
};
