// ExternalWorkload: a machine outside the cluster that is part of the mesh.
import { choice, type Infer, integer, list, object, optional, parsed, ruled, text } from "../schema/index.ts";
import { parseIp } from "../util/ip.ts";
import { conditionFields } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import { isIdentity } from "./mesh-tls-authentication.ts";
import type { Resource } from "./object.ts";

const meshTLS = ruled(
  object({
    identity: text({ minLength: 1, maxLength: 253 }),
    serverName: text({ minLength: 1, maxLength: 253 }),
  }),
  ({ identity, serverName }, report) => {
    if (identity.startsWith("*") || !isIdentity(identity))
      report.problem("identity", `expected a DNS-like name or spiffe://…, got ${JSON.stringify(identity)}`);
    if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(serverName))
      report.problem("serverName", `expected a DNS name, got ${JSON.stringify(serverName)}`);
  },
);

/** IANA_SVC_NAME, RFC 6335 section 5.1. */
const PORT_NAME = /^(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/;

const ports = ruled(
  list(
    object({
      name: optional(text()),
      port: integer({ min: 1, max: 65_535, format: "int32" }),
      protocol: choice(["TCP", "UDP", "SCTP"], { default: "TCP" }),
    }),
  ),
  (value, report) => {
    const seen = new Map<string, number>();
    value.forEach(({ name }, index) => {
      if (name === undefined) return;
      if (!PORT_NAME.test(name))
        report.problem(
          `[${index}].name`,
          `expected 1 to 15 small letters, digits and dashes with a letter among them, got ${JSON.stringify(name)}`,
        );
      const known = seen.get(name);
      if (known === undefined) seen.set(name, index);
      else
        report.problem(
          `[${index}].name`,
          `expected a name that no other port has, got that of [${known}]: ${name}`,
        );
    });
  },
);

const workloadIPs = ruled(
  list(object({ ip: parsed({ expects: "an IP address" }, parseIp) }), { maxItems: 2 }),
  (value, report) => {
    const [first, second] = value.map(({ ip }) => parseIp(ip).family);
    if (first !== undefined && first === second)
      report.warning("[1]", `expected addresses of both families, got two of IPv${first}; the first is used`);
  },
);

const externalWorkloadSpec = object({
  meshTLS,
  ports: optional(ports),
  workloadIPs: optional(workloadIPs),
});
const status = object({
  conditions: optional(
    list(object({ ...conditionFields, lastProbeTime: optional(text({ format: "date-time" })) }), {
      keys: ["type"],
    }),
  ),
});
export type ExternalWorkload = Resource<Infer<typeof externalWorkloadSpec>, Infer<typeof status>>;

export const EXTERNAL_WORKLOAD: Kind = {
  group: "workload.linkerd.io",
  kind: "ExternalWorkload",
  plural: "externalworkloads",
  owner: "mesh",
  categories: ["external"],
  versions: [
    {
      name: "v1alpha1",
      spec: object({ meshTls: meshTLS, ports: optional(ports), workloadIPs: optional(workloadIPs) }),
      deprecated: "workload.linkerd.io/v1beta1 ExternalWorkload",
    },
    { name: "v1beta1", spec: externalWorkloadSpec },
  ],
  status,
  columns: [{ name: "Identity", path: ".spec.meshTLS.identity" }],
};
