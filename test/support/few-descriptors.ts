// An outbound side before an application, in a process that may open few files. Says its port; when asked, its share of a
// core within a second, or which of the proxy's errors it has counted.
import { createInterface } from "node:readline";
import { startOutbound } from "./proxy-fakes.ts";
import { RawServer } from "./wire.ts";

const server = await RawServer.start((peer) => {
  peer.onData = (received) => {
    if (received.endsWith("\r\n\r\n")) peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  };
});
const proxy = await startOutbound({ ip: "127.0.0.1", port: server.port });
process.stdout.write(`port ${proxy.port}\n`);

createInterface(process.stdin).on("line", (line) => {
  if (line === "metrics") {
    const codes = [...proxy.registry.expose().matchAll(/errors_total{.*code="(MESH-\d+)"}/g)];
    process.stdout.write(`metrics ${codes.map((code) => code[1]).join(" ")}\n`);
    return;
  }
  const before = process.cpuUsage();
  setTimeout(() => {
    const { user, system } = process.cpuUsage(before);
    process.stdout.write(`cpu ${(user + system) / 1e6}\n`);
  }, 1_000);
});
