// The executable that kubectl asks for completions (`kubectl_complete-mesh`): never prints an error, never waits
// long. Reads the manifest; asks the cluster only when a name is being typed.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../util/package-root.ts";
import { KIND_NAMES, parseKind } from "../viz/resource.ts";
import { complete, type Lookups, type ManifestCommand, renderCompletion } from "./completion.ts";

/** The cluster's time to answer, ms: beyond it a person has typed on. */
const PATIENCE = 1_000;

/** @returns the lines for kubectl */
export async function completionLines(words: readonly string[]): Promise<string> {
  const file = join(packageRoot(), "oclif.manifest.json");
  const { commands } = JSON.parse(readFileSync(file, "utf8")) as {
    commands: Record<string, ManifestCommand>;
  };
  return renderCompletion(await complete(words, commands, clusterLookups(words)));
}

function clusterLookups(words: readonly string[]): Lookups {
  const kubeconfig = given(words, "--kubeconfig");
  const context = given(words, "--context");
  const names = async (path: (namespace: string) => string, namespace?: string): Promise<string[]> => {
    const [{ loadKubeConfig }, { KubeClient }] = await Promise.all([
      import("../kube/config.ts"),
      import("../kube/client.ts"),
    ]);
    const config = await loadKubeConfig({ kubeconfig, context });
    const list = await new KubeClient(config).list(path(namespace ?? config.namespace));
    return list.items.map((item) => item.metadata.name);
  };
  return {
    kinds: () => [...KIND_NAMES],
    namespaces: () => soon(names(() => "/api/v1/namespaces")),
    names: (kind, namespace) => soon(names((ns) => collectionPath(kind, ns), namespace)),
    contexts: () =>
      soon(import("../kube/config.ts").then(({ contextNames }) => contextNames({ kubeconfig }))),
  };
}

const GROUPS: Record<string, string> = {
  deployment: "apis/apps/v1",
  statefulset: "apis/apps/v1",
  daemonset: "apis/apps/v1",
  replicaset: "apis/apps/v1",
  job: "apis/batch/v1",
  cronjob: "apis/batch/v1",
};

function collectionPath(kindName: string, namespace: string): string {
  const kind = parseKind(kindName);
  if (kind === "namespace") return "/api/v1/namespaces";
  return `/${GROUPS[kind] ?? "api/v1"}/namespaces/${namespace}/${kind}s`;
}

function given(words: readonly string[], flag: string): string | undefined {
  const at = words.indexOf(flag);
  if (at >= 0) return words[at + 1];
  return words.find((word) => word.startsWith(`${flag}=`))?.slice(flag.length + 1);
}

/** What came in time; nothing for any failure, since an error would land in the person's command line. */
function soon(answer: Promise<string[]>): Promise<string[]> {
  return Promise.race([
    answer.catch(() => []),
    new Promise<string[]>((resolve) => setTimeout(() => resolve([]), PATIENCE).unref()),
  ]);
}
