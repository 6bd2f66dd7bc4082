// Opens connections to the control plane: the name resolved anew each time, mesh TLS unless on the loopback.
import { promises as dns } from "node:dns";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type SecureContext } from "node:tls";
import type { Clock } from "../../util/clock.ts";
import type { ControlService } from "../config.ts";

/** Connecting and shaking hands take at most this long, ms. */
const CONNECT_TIMEOUT = 3_000;
/** A name server that does not answer within this is asked again, or the next one is, ms. */
const DNS = { timeout: 1_000, tries: 3 };

/** Where a service was dialled last. */
export interface LastReplica {
  address?: string;
}

/**
 * One of a headless Service's pods, by chance, so that proxies spread over the replicas; but not the one that was dialled
 * last, if there is another: it has left or failed, or there would be no reason to dial.
 */
export function chooseReplica(addresses: readonly string[], last: LastReplica, random: () => number): string {
  const others = addresses.filter((address) => address !== last.address);
  const from = others.length > 0 ? others : addresses;
  const chosen = from[Math.floor(random() * from.length)]!;
  last.address = chosen;
  return chosen;
}

/**
 * @param secureContext whom to trust and what to show; it also sets the least version of TLS
 * @param last of the same service; it is brought up to date
 */
export async function connectControl(
  service: ControlService,
  secureContext: SecureContext,
  clock: Clock,
  last: LastReplica = {},
): Promise<Socket> {
  const host = chooseReplica(await resolve(service.host), last, clock.random);
  const { port, name } = service;
  const socket =
    name === undefined
      ? connectTcp({ host, port, noDelay: true, keepAlive: true })
      : connectTls({
          host,
          port,
          servername: name,
          secureContext,
          checkServerIdentity: (_host, { subjectaltname }) =>
            subjectaltname?.split(", ").includes(`DNS:${name}`)
              ? undefined
              : new Error(`expected the identity ${name}, got ${subjectaltname ?? "none"}`),
        });
  socket.setNoDelay(true);
  return new Promise((resolveSocket, reject) => {
    const timer = clock.after(CONNECT_TIMEOUT, () =>
      socket.destroy(new Error(`no connection within ${CONNECT_TIMEOUT} ms`)),
    );
    const failed = (error: Error) => {
      clock.clear(timer);
      reject(error);
    };
    socket.once("error", failed);
    socket.once(name === undefined ? "connect" : "secureConnect", () => {
      clock.clear(timer);
      socket.off("error", failed);
      resolveSocket(socket);
    });
  });
}

async function resolve(host: string): Promise<string[]> {
  if (isIP(host)) return [host];
  if (/^localhost\.?$/.test(host)) return ["127.0.0.1"];
  // Absolute, so that the pod's search path costs no look-ups.
  const name = host.endsWith(".") ? host : `${host}.`;
  // A new one each time: it reads resolv.conf, which may have changed.
  const resolver = new dns.Resolver(DNS);
  const addresses = await resolver
    .resolve4(name)
    .catch((error) => resolver.resolve6(name).catch(() => Promise.reject(error)));
  if (addresses.length === 0) throw new Error(`${host} has no address`);
  return addresses;
}
