// The policy of a proxy's own port, as replicas come that know less than others.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GrpcError, STATUS } from "../../../src/api/grpc-status.ts";
import type { CallHandler, GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import { ControlDiscovery } from "../../../src/proxy/control/index.ts";
import type { Server } from "../../../src/proxy/ports.ts";
import { defaultServer } from "../../../src/rules/default-policy.ts";
import { ManualClock } from "../../support/clock.ts";

const test = suite("a proxy's own policy");

/** Calls that are answered by hand. */
function planeByHand() {
  const calls: CallHandler<unknown>[] = [];
  const client = {
    call(_method: unknown, _request: unknown, handler: CallHandler<unknown>) {
      calls.push(handler);
      return () => {};
    },
  } as unknown as GrpcClient;
  const clock = new ManualClock();
  const discovery = new ControlDiscovery({
    destination: client,
    policy: client,
    clock,
    context: "",
    workload: "",
    profiled: () => true,
    profileTimeout: 500,
    streamTimeout: 3_000,
    defaultPolicy: "all-unauthenticated",
    clusterNetworks: [],
    opaquePorts: [],
  });
  return { calls, clock, discovery };
}

const unknown = new GrpcError(STATUS.NOT_FOUND, "there is no Pod");
const strict = defaultServer({
  policy: "deny",
  clusterNetworks: [],
  opaque: false,
  probes: [],
}) as Server;
const nameOf = (server: Server | undefined) => server?.labels["name"];

test("a replica that does not know the pod yet is asked again soon, not after ten seconds of the default", async () => {
  const { calls, clock, discovery } = planeByHand();
  const watch = discovery.serverPolicy(80);
  calls[0]!.onEnd(unknown);
  assert.is(nameOf(watch.current), "all-unauthenticated");
  await clock.advance(500);
  assert.is(calls.length, 2);
  calls[1]!.onMessage(strict);
  assert.is(nameOf(watch.current), "deny");
  discovery.close();
});

test("a replica that does not know the pod takes nothing away from what another said", async () => {
  const { calls, clock, discovery } = planeByHand();
  const watch = discovery.serverPolicy(80);
  const seen: (string | undefined)[] = [];
  watch.subscribe((server) => seen.push(nameOf(server)));
  calls[0]!.onMessage(strict);
  calls[0]!.onEnd(new GrpcError(STATUS.UNAVAILABLE, "this replica is leaving"));
  await clock.advance(500);
  calls[1]!.onEnd(unknown);
  assert.is(nameOf(watch.current), "deny");
  await clock.advance(3_000);
  assert.is(calls.length, 3);
  calls[2]!.onMessage(strict);
  assert.equal(seen, ["deny", "deny"]);
  discovery.close();
});

test.run();
