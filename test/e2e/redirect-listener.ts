// Stands in for the proxy in proxy-init's test: answers every connection with where it was really going.
import { createServer } from "node:net";
import koffi from "koffi";

const getsockopt = koffi
  .load("libc.so.6")
  .func("int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *size)");
const SOL_IP = 0;
const SO_ORIGINAL_DST = 80;

for (const [name, port] of [
  ["inbound", 4143],
  ["outbound", 4140],
  ["app", 4567],
] as const) {
  createServer((socket) => {
    const address = Buffer.alloc(16);
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const failed = getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, address, [address.length]) !== 0;
    const destination = failed
      ? "direct"
      : `${[...address.subarray(4, 8)].join(".")}:${address.readUInt16BE(2)}`;
    const body = `${name} ${destination}\n`;
    socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  }).listen(port, "0.0.0.0", () => process.stdout.write(`${name}\n`));
}
