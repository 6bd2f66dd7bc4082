// Which Server speaks for a port of a workload. Two Servers may select the same port: then the older one does, then
// the one whose name comes first; the other one has no effect there, and its owner is told (docs/policy.md).
import { type LabelSelector, selectorMatches } from "./label-selector.ts";
import { byAge, type ServerRecord, type Workload } from "./policy-records.ts";
import type { Trace } from "./trace.ts";

/** Whether a Server selects the workload, on whatever port. */
export function selectsWorkload(server: ServerRecord, { kind, namespace, labels }: Workload): boolean {
  const selector = kind === "Pod" ? server.podSelector : server.externalWorkloadSelector;
  return server.namespace === namespace && selectorMatches(selector, labels);
}

/** The ports of a workload that a Server means: a number is taken as it is, a name may stand for several. */
export function portsOf({ port }: ServerRecord, { ports }: Workload): readonly number[] {
  if (typeof port === "number") return [port];
  if (/^\d+$/.test(port)) return [Number(port)];
  return ports.filter(({ name }) => name === port).map((named) => named.port);
}

/** Whether a Server selects this port of the workload. */
export function selectsPort(server: ServerRecord, workload: Workload, port: number, trace?: Trace): boolean {
  const text = `Server ${server.namespace}/${server.name}`;
  if (!selectsWorkload(server, workload)) {
    trace?.add(text, false, `its selector does not take the labels of ${workload.kind} ${workload.name}`);
    return false;
  }
  const selected = portsOf(server, workload).includes(port);
  if (!selected) trace?.add(text, false, `its port is ${server.port}, not ${port}`);
  return selected;
}

/** False: there can be no port of a workload that both select, whatever workloads there are. */
export function mayOverlap(a: ServerRecord, b: ServerRecord): boolean {
  const ports = [a.port, b.port].filter((port) => /^\d+$/.test(String(port))).map(Number);
  // A name may stand for any number.
  if (ports.length === 2 && ports[0] !== ports[1]) return false;
  return (
    a.namespace === b.namespace &&
    (mayMeet(a.podSelector, b.podSelector) || mayMeet(a.externalWorkloadSelector, b.externalWorkloadSelector))
  );
}

/** Whether labels can suit both selectors. */
function mayMeet(a: LabelSelector | undefined, b: LabelSelector | undefined): boolean {
  if (!a || !b) return false;
  for (const key in a.matchLabels) {
    const other = b.matchLabels?.[key];
    if (other !== undefined && other !== a.matchLabels[key]) return false;
  }
  return true;
}

/** The Server that speaks for a port of a workload; undefined: none selects it. */
export function chooseServer(
  servers: readonly ServerRecord[],
  workload: Workload,
  port: number,
  trace?: Trace,
): ServerRecord | undefined {
  const [chosen, ...others] = servers
    .filter((candidate) => selectsPort(candidate, workload, port, trace))
    .sort(byAge);
  if (chosen) trace?.add(`Server ${chosen.namespace}/${chosen.name}`, true, "it selects the port");
  for (const other of others)
    trace?.add(
      `Server ${other.namespace}/${other.name}`,
      false,
      `it selects the port too, but ${chosen!.name} is older, or of the same age with a name before it`,
    );
  return chosen;
}
