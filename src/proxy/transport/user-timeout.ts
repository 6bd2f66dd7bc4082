// TCP_USER_TIMEOUT: how long bytes may go unacknowledged before the kernel gives a connection up (RFC 5482). Without it
// a peer that vanished is waited for a quarter of an hour. Through koffi, since Node cannot set it.
import type { SetUserTimeout } from "../ports.ts";
import { descriptor } from "./original-dst.ts";

const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;

/** A socket that is gone is left alone. @throws Error when koffi cannot be loaded (no Linux, no prebuilt binary for the machine). */
export async function kernelUserTimeout(): Promise<SetUserTimeout> {
  const { default: koffi } = await import("koffi");
  const setsockopt = koffi
    .load(null)
    .func("int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)");
  const value = Buffer.alloc(4);
  return (socket, ms) => {
    const fd = descriptor(socket);
    if (fd === undefined) return;
    value.writeUInt32LE(ms);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value, value.length);
  };
}
