// Reads the `path` of a look-up: an authority of the cluster, or an IP address, with a port.
import { isIP } from "node:net";
import { GrpcError, STATUS } from "../api/grpc-status.ts";

export type Target =
  | {
      readonly kind: "service";
      readonly name: string;
      readonly namespace: string;
      readonly hostname?: string;
      readonly port: number;
    }
  | { readonly kind: "ip"; readonly ip: string; readonly port: number };

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** @throws GrpcError InvalidArgument for anything that is neither. */
export function parseAuthority(path: string, clusterDomain: string): Target {
  const refuse = (): never => {
    throw new GrpcError(
      STATUS.INVALID_ARGUMENT,
      `expected name.namespace.svc.${clusterDomain}:port or ip:port, got ${JSON.stringify(path.slice(0, 300))}`,
    );
  };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(path);
  if (!match) return refuse();
  const host = (match[1] ?? match[2])!;
  const port = Number(match[3] ?? 80);
  if (port < 1 || port > 65_535) return refuse();
  if (isIP(host)) return { kind: "ip", ip: host, port };
  const suffix = `.svc.${clusterDomain}`;
  const bare = host.toLowerCase().replace(/\.$/, "");
  if (!bare.endsWith(suffix)) return refuse();
  const labels = bare.slice(0, -suffix.length).split(".");
  if (labels.length < 2 || labels.length > 3 || !labels.every((label) => LABEL.test(label))) return refuse();
  const [namespace, name, hostname] = labels.reverse();
  return {
    kind: "service",
    name: name!,
    namespace: namespace!,
    port,
    ...(hostname === undefined ? {} : { hostname }),
  };
}
