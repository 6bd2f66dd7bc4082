// Where a redirected connection was meant to go: getsockopt(SO_ORIGINAL_DST) through koffi, since Node has no
// getsockopt. Answers come from the kernel's connection tracking (reference/data-planes.md §6).
import type { Socket } from "node:net";
import { formatIp } from "../../util/ip.ts";
import type { OriginalDestination } from "../ports.ts";

const SOL_IP = 0;
const SOL_IPV6 = 41;
const SO_ORIGINAL_DST = 80;
const SOCKADDR_IN_SIZE = 16;
const SOCKADDR_IN6_SIZE = 28;

/** @throws Error when koffi cannot be loaded (no Linux, no prebuilt binary for the machine). */
export async function kernelOriginalDestination(): Promise<OriginalDestination> {
  const { default: koffi } = await import("koffi");
  const getsockopt = koffi
    .load(null)
    .func("int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)");
  const address = Buffer.alloc(SOCKADDR_IN6_SIZE);
  const read = (fd: number, level: number, size: number): boolean => {
    const length = [size];
    return getsockopt(fd, level, SO_ORIGINAL_DST, address, length) === 0;
  };
  return {
    of(socket) {
      const fd = descriptor(socket);
      if (fd === undefined) return undefined;
      // An IPv4 client of a dual-stack listener is mapped, and only answers to the IPv4 form.
      const peer = socket.remoteAddress ?? "";
      const v4 = !peer.includes(":") || peer.startsWith("::ffff:");
      if (v4) return read(fd, SOL_IP, SOCKADDR_IN_SIZE) ? v4Address(address) : undefined;
      return read(fd, SOL_IPV6, SOCKADDR_IN6_SIZE) ? v6Address(address) : undefined;
    },
  };
}

/** Node keeps the descriptor on the handle; undocumented, and stable since its first versions. */
export function descriptor(socket: Socket): number | undefined {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

function v4Address(address: Buffer): { ip: string; port: number } {
  return { ip: `${address[4]}.${address[5]}.${address[6]}.${address[7]}`, port: address.readUInt16BE(2) };
}

function v6Address(address: Buffer): { ip: string; port: number } {
  const bits = (address.readBigUInt64BE(8) << 64n) | address.readBigUInt64BE(16);
  return { ip: formatIp(6, bits), port: address.readUInt16BE(2) };
}
