// The policy controller as a process.
//
// Environment besides runController's: MESH_DEFAULT_POLICY, MESH_CLUSTER_NETWORKS (CIDRs), MESH_CLUSTER_DOMAIN,
// MESH_TRUST_DOMAIN, MESH_DEFAULT_OPAQUE_PORTS, MESH_GLOBAL_EGRESS_NAMESPACE, MESH_ALLOW_L5D_REQUEST_HEADERS (true),
// MESH_WEBHOOK_PORT; and serveWebhook's.
import { POLICY_LEASE, VALIDATOR_PORT, VALIDATOR_WEBHOOK_NAMES } from "../../manifests/names.ts";
import { DEFAULT_POLICIES, isDefaultPolicy } from "../../rules/default-policy.ts";
import { parseCidr } from "../../util/ip.ts";
import { paced } from "../../util/paced.ts";
import { parsePortSet } from "../../util/port-set.ts";
import { collectLists, followCluster, followKinds, TELLING_PACE } from "../cluster-feed.ts";
import { EventRecorder } from "../event-recorder.ts";
import { createValidator } from "../policy-validator/review.ts";
import { type ControllerProcess, runController } from "../process.ts";
import { serveWebhook } from "../webhook.ts";
import { type PolicyFacts, PolicyIndex } from "./index.ts";
import { policyKinds } from "./kinds.ts";
import { servePolicy } from "./service.ts";
import { StatusWriter } from "./status-writer.ts";
import { keyOf } from "./store.ts";

const FIELD_MANAGER = "mesh-policy-controller";

export function main(run: typeof runController = runController): Promise<void> {
  return run("policy", { port: 8090, adminPort: 9991 }, async (process) => {
    const { client, log, registry } = process;
    await setUpPolicy(process).serving;
    await serveWebhook(process, {
      names: VALIDATOR_WEBHOOK_NAMES,
      port: Number(process.env["MESH_WEBHOOK_PORT"] ?? VALIDATOR_PORT),
      review: createValidator({ registry, log }),
      events: new EventRecorder(client, "linkerd-policy-validator", log, { findUid: true }),
    });
  });
}

/** The index at once, and when it is served. */
export interface PolicyController {
  readonly index: PolicyIndex;
  readonly serving: Promise<void>;
}

export function setUpPolicy(process: ControllerProcess): PolicyController {
  const facts = factsOf(process);
  const index = new PolicyIndex(facts, paced(process.clock, TELLING_PACE));
  const status = statusWriter(process, index, facts);
  const cluster = followCluster(process, {
    service: {
      put(service, { uid = "" }) {
        index.putService(service);
        const subject = { kind: "service", key: keyOf(service) } as const;
        if (service.annotationProblems.length === 0) status.remove(subject);
        else
          status.put({
            ...subject,
            apiVersion: "v1",
            objectKind: "Service",
            resource: "services",
            namespace: service.namespace,
            name: service.name,
            uid,
            generation: undefined,
            resourceVersion: undefined,
            parents: [],
            conditions: [],
            problems: service.annotationProblems,
          });
      },
      remove(namespace, name) {
        index.removeService(namespace, name);
        status.remove({ kind: "service", key: keyOf({ namespace, name }) });
      },
    },
    pod: { put: (pod) => index.putPod(pod), remove: (ns, name) => index.removePod(ns, name) },
    namespace: { put: (ns) => index.putNamespace(ns), remove: (_, name) => index.removeNamespace(name) },
  });
  const kinds = followKinds(process, policyKinds(index, status), "the first lists of policy");
  const server = process.grpcServer();
  servePolicy(server, index, facts.clusterDomain);
  observe(process, index);
  // Before the cluster is known every pod and Service would seem not to exist, and every port without a Server.
  const serving = Promise.all([cluster, kinds.synced]).then(() => {
    collectLists();
    return process.serve(server);
  });
  return { index, serving };
}

function factsOf({ env, namespace }: ControllerProcess): PolicyFacts {
  const defaultPolicy = env["MESH_DEFAULT_POLICY"] ?? "all-unauthenticated";
  if (!isDefaultPolicy(defaultPolicy)) {
    throw new Error(
      `MESH_DEFAULT_POLICY: expected one of ${DEFAULT_POLICIES.join(", ")}, got ${defaultPolicy}`,
    );
  }
  const clusterNetworks = (env["MESH_CLUSTER_NETWORKS"] ?? "").split(",").filter((cidr) => cidr !== "");
  for (const cidr of clusterNetworks) parseCidr(cidr);
  return {
    defaultPolicy,
    clusterNetworks,
    clusterDomain: env["MESH_CLUSTER_DOMAIN"] ?? "cluster.local",
    defaultOpaquePorts: parsePortSet(env["MESH_DEFAULT_OPAQUE_PORTS"] ?? ""),
    domain: { controlPlane: namespace, trustDomain: env["MESH_TRUST_DOMAIN"] ?? "cluster.local" },
    globalEgressNamespace: env["MESH_GLOBAL_EGRESS_NAMESPACE"] ?? "linkerd-egress",
    allowHeaders: env["MESH_ALLOW_L5D_REQUEST_HEADERS"] === "true",
  };
}

/** Statuses are written by the one replica that holds the Lease. */
function statusWriter(process: ControllerProcess, index: PolicyIndex, facts: PolicyFacts): StatusWriter {
  const { client, clock, log, registry } = process;
  const election = process.elect(POLICY_LEASE);
  const fenced = client.fencedBy(election);
  const events = new EventRecorder(fenced, "mesh-policy-controller", log, { clock });
  const writer = new StatusWriter({
    store: index.store,
    clusterNetworks: facts.clusterNetworks,
    defaultOpaquePorts: facts.defaultOpaquePorts,
    leadership: election,
    patch: (path, body) =>
      fenced.request(path, {
        method: "PATCH",
        body,
        query: { fieldManager: FIELD_MANAGER },
        contentType: "application/merge-patch+json",
      }),
    tell: (involved, type, reason, message) => events.tell(involved, type, reason, message),
    clock,
    log,
    registry,
  });
  process.onStop(() => writer.stop());
  return writer;
}

function observe({ registry }: ControllerProcess, index: PolicyIndex): void {
  const watched = registry.gauge(
    "policy_watched",
    "What is watched: ports of workloads, the different Servers and defaults that hold there, outbound policies.",
  );
  const recomputed = registry
    .counter("policy_recomputed_total", "Times that something watched was made again because of a change.")
    .labels();
  const [ports, servers, outbound] = ["port", "server", "outbound"].map((kind) => watched.labels({ kind }));
  registry.onCollect(() => {
    ports!.set(index.watched.ports);
    servers!.set(index.watched.servers);
    outbound!.set(index.watched.policies);
    recomputed.inc(index.recomputed - recomputed.value);
  });
}
