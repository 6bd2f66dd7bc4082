// Cluster IPs and node ports of Services. What is taken is read from the stored Services themselves, so there is
// nothing to leak or repair.

import { randomInt } from "node:crypto";
import type { Json, KubeObject } from "../cluster.ts";
import type { Registry } from "./registry.ts";
import { type FieldError, internal, invalid, invalidValue } from "./status.ts";

/** 10.96.0.0/16, without the network and broadcast addresses. */
const PREFIX = "10.96.";
const HOSTS = 65534;
/** Below this host number only explicit requests are served (10.96.0.1 is the API, .10 is DNS). */
const RESERVED = 255;
const NODE_PORTS = { first: 30000, last: 32767 };

export interface ServiceAddresses {
  /** Fills in what an update leaves out and the Service already has. */
  keep(next: KubeObject, current: KubeObject): void;
  /** Gives the Service the addresses it needs; call right before it is stored. Throws 422 for taken ones. */
  assign(next: KubeObject, current: KubeObject | undefined): void;
}

export function serviceAddresses(registry: Registry): ServiceAddresses {
  return {
    keep(next, current) {
      const { spec } = next;
      const old = current.spec;
      if (spec.type === "ExternalName" || old.type === "ExternalName") return;
      if (!spec.clusterIP && old.clusterIP) spec.clusterIP = old.clusterIP;
      if (!spec.clusterIPs && old.clusterIPs) spec.clusterIPs = [...old.clusterIPs];
      if (needsNodePorts(spec)) {
        for (const port of spec.ports ?? []) {
          if (port.nodePort) continue;
          const same = (old.ports ?? []).find(
            (p: Json) => p.port === port.port && p.protocol === port.protocol,
          );
          if (same?.nodePort) port.nodePort = same.nodePort;
        }
      }
    },
    assign(next, current) {
      const { spec } = next;
      const errors: FieldError[] = [];
      if (spec.type === "ExternalName") {
        delete spec.clusterIP;
        delete spec.clusterIPs;
      } else {
        const taken = takenBy(registry, next);
        spec.clusterIP ||= spec.clusterIPs?.[0];
        if (!spec.clusterIP) spec.clusterIP = freeAddress(taken.addresses);
        else if (spec.clusterIP !== "None" && spec.clusterIP !== current?.spec.clusterIP) {
          if (!inRange(spec.clusterIP)) {
            errors.push(
              invalidValue(
                "spec.clusterIPs",
                [spec.clusterIP],
                "failed to allocate IP: the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16",
              ),
            );
          } else if (taken.addresses.has(spec.clusterIP)) {
            errors.push(
              invalidValue(
                "spec.clusterIPs",
                [spec.clusterIP],
                "failed to allocate IP: provided IP is already allocated",
              ),
            );
          }
        }
        spec.clusterIPs = [spec.clusterIP];
        spec.ipFamilies ??= ["IPv4"];
        spec.ipFamilyPolicy ??= "SingleStack";
        if (needsNodePorts(spec)) nodePorts(spec, current, taken.ports, errors);
        else for (const port of spec.ports ?? []) delete port.nodePort;
      }
      if (errors.length > 0) throw invalid("", "Service", next.metadata.name, errors);
    },
  };
}

const needsNodePorts = (spec: Json) =>
  spec.type === "NodePort" || (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts !== false);

function takenBy(registry: Registry, except: KubeObject): { addresses: Set<string>; ports: Set<number> } {
  const addresses = new Set<string>();
  const ports = new Set<number>();
  for (const [, service] of registry.store.entries("/services")) {
    if (service.metadata.uid === except.metadata.uid) continue;
    addresses.add(service.spec.clusterIP);
    for (const port of service.spec.ports ?? []) if (port.nodePort) ports.add(port.nodePort);
  }
  return { addresses, ports };
}

const address = (host: number) => `${PREFIX}${host >> 8}.${host & 255}`;

function inRange(ip: string): boolean {
  return /^10\.96\.\d{1,3}\.\d{1,3}$/.test(ip) && ip !== "10.96.0.0" && ip !== "10.96.255.255";
}

function freeAddress(taken: Set<string>): string {
  const start = randomInt(RESERVED + 1, HOSTS + 1);
  for (let i = 0; i < HOSTS; i++) {
    const host = ((start + i - 1) % HOSTS) + 1;
    if (host > RESERVED && !taken.has(address(host))) return address(host);
  }
  throw internal("failed to allocate a serviceIP: range is full");
}

function nodePorts(
  spec: Json,
  current: KubeObject | undefined,
  taken: Set<number>,
  errors: FieldError[],
): void {
  const own = new Set((current?.spec.ports ?? []).map((port: Json) => port.nodePort));
  (spec.ports ?? []).forEach((port: Json, i: number) => {
    if (port.nodePort) {
      if (taken.has(port.nodePort) && !own.has(port.nodePort)) {
        errors.push(
          invalidValue(`spec.ports[${i}].nodePort`, port.nodePort, "provided port is already allocated"),
        );
      } else if (port.nodePort < NODE_PORTS.first || port.nodePort > NODE_PORTS.last) {
        errors.push(
          invalidValue(
            `spec.ports[${i}].nodePort`,
            port.nodePort,
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
          ),
        );
      }
      taken.add(port.nodePort);
      return;
    }
    const span = NODE_PORTS.last - NODE_PORTS.first + 1;
    const start = randomInt(span);
    for (let step = 0; step < span; step++) {
      const candidate = NODE_PORTS.first + ((start + step) % span);
      if (taken.has(candidate)) continue;
      port.nodePort = candidate;
      taken.add(candidate);
      return;
    }
    throw internal("failed to allocate a nodePort: range is full");
  });
}
