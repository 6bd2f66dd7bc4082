// Listens on port 4140 of the address given first, dials the one given second, and prints the original destination
// of what arrives.
import * as net from "node:net";
import { parseAddress } from "../../src/proxy/config.ts";
import { kernelOriginalDestination } from "../../src/proxy/transport/original-dst.ts";

const [listen, dial] = process.argv.slice(2) as [string, string];
const kernel = await kernelOriginalDestination();
const server = net.createServer((socket) => {
  console.log(JSON.stringify(kernel.of(socket)) ?? "undefined");
  process.exit(0);
});
server.listen(4140, listen, () => {
  const { host, port } = parseAddress(dial);
  net.connect(port, host);
});
