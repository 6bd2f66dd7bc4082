// gRPC's own interoperability cases with gRPC's own client and server, through two proxies with mesh TLS between.
import { suite } from "uvu";
import { INTEROP_CASES, interopClient, startInteropServer } from "../../support/grpc-interop.ts";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";

const test = suite("gRPC interop through a meshed pair");
const NAME = "grpc.ns.serviceaccount.identity.test";

let client: ReturnType<typeof interopClient>;
const undo: (() => void)[] = [];

test.before(async () => {
  const authority = createAuthority();
  const server = await startInteropServer();
  undo.push(() => server.close());
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: server.port },
    { identity: authority.identity(NAME) },
  );
  undo.push(() => inbound.path.close());
  const outbound = await startOutbound(
    { ip: "127.0.0.1", port: 80 },
    { identity: authority.identity("app.test") },
  );
  undo.push(() => outbound.path.close());
  outbound.discovery.service("127.0.0.1:80", "grpc.ns.svc.cluster.local", [
    { port: inbound.port, identity: NAME, h2: true },
  ]);
  client = interopClient(outbound.port);
  undo.push(() => client.close());
});

test.after(() => {
  for (const fn of undo.reverse()) fn();
});

for (const [name, run] of Object.entries(INTEROP_CASES)) test(name, () => run(client));

test.run();
