// Label sets as linkerd2-proxy writes them.

import { addressKey } from "../../api/address.ts";
import type { Labels } from "../../metrics/registry.ts";

export function targetLabels(ip: string, port: number): Labels {
  return { target_addr: addressKey(ip, port), target_ip: ip, target_port: port };
}

/** Every label with `prefix_` before its name; names that Prometheus would not take are left out. */
export function prefixed(prefix: string, labels: Readonly<Record<string, string>>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(labels)) {
    if (/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) out[`${prefix}_${name}`] = value;
  }
  return out;
}

export type NoTlsReason =
  | "no_tls_from_remote"
  | "port_skipped"
  | "loopback"
  | "disabled"
  | "not_provided_by_service_discovery";

/** Label values that are all text. */
export type TextLabels = Readonly<Record<string, string>>;

export function serverTlsLabels(tls: boolean, clientId: string | undefined, reason: NoTlsReason): TextLabels {
  if (!tls) return { tls: "no_identity", no_tls_reason: reason };
  return clientId === undefined ? { tls: "true" } : { tls: "true", client_id: clientId };
}

export function clientTlsLabels(serverId: string | undefined, reason: NoTlsReason): TextLabels {
  return serverId === undefined
    ? { tls: "no_identity", no_tls_reason: reason }
    : { tls: "true", server_id: serverId };
}
