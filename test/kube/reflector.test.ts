// The reflector: lists, watches, and what goes wrong between them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KubeClient, keyOf, Reflector } from "../../src/kube/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { ApiServer } from "../support/api-server.ts";
import { until } from "../support/until.ts";

const test = suite("reflector");

/** A clock whose waits are short, so that back-off does not slow the tests. */
const quick = {
  ...systemClock,
  after: (ms: number, fn: () => void) => systemClock.after(Math.min(ms, 5), fn),
};

async function withReflector(
  run: (server: ApiServer, events: string[], reflector: Reflector) => Promise<void>,
  prepare: (server: ApiServer) => void = () => {},
): Promise<void> {
  const server = new ApiServer();
  prepare(server);
  const client = new KubeClient(await server.listen());
  const events: string[] = [];
  const reflector = new Reflector(client, { path: "/api/v1/things", clock: quick });
  reflector.on({
    added: (object) => events.push(`+${object.metadata.name}`),
    updated: (object) => events.push(`~${object.metadata.name}`),
    deleted: (object) => events.push(`-${object.metadata.name}`),
    synced: () => events.push("synced"),
  });
  reflector.start();
  try {
    await reflector.synced;
    await until(() => server.watchers > 0);
    await run(server, events, reflector);
  } finally {
    reflector.stop();
    client.close();
    await server.close();
  }
}

const three = (server: ApiServer) => {
  for (const name of "abc") server.put(name);
};

test("it lists, then follows changes", () =>
  withReflector(async (server, events, reflector) => {
    assert.equal(events, ["+a", "+b", "+c", "synced"]);
    server.put("a");
    server.put("d");
    server.remove("b");
    await until(() => events.at(-1) === "-b");
    assert.equal(events.slice(4), ["~a", "+d", "-b"]);
    assert.equal([...reflector.list()].map(keyOf).sort(), ["ns/a", "ns/c", "ns/d"]);
    assert.is(reflector.get("ns", "a")?.metadata.resourceVersion, "5");
  }, three));

test("a watch that is cut goes on from its version without a new list", () =>
  withReflector(async (server, events) => {
    server.put("d");
    await until(() => events.includes("+d"));
    const before = server.seen.length;
    server.cutWatches();
    await until(() => server.seen.length > before);
    assert.is(server.seen.filter((s) => !s.url.searchParams.get("watch")).length, 2, "two pages, once");
    assert.is(server.seen.at(-1)?.url.searchParams.get("resourceVersion"), "5");
  }, three));

test("a version that is too old means a new list, and what vanished is told as deleted", () =>
  withReflector(async (server, events) => {
    server.objects.delete("b");
    server.version += 100;
    server.oldest = server.version;
    server.put("e");
    server.objects.set("c", {
      metadata: { name: "c", namespace: "ns", uid: "other", resourceVersion: "99" },
    });
    server.cutWatches();
    await until(() => events.filter((e) => e === "synced").length === 2);
    assert.equal(
      events
        .slice(4)
        .filter((e) => e !== "+e")
        .sort(),
      ["+c", "-b", "-c", "synced"],
    );
  }, three));

test("a server that refuses is asked again, and syncing waits", async () => {
  let refusals = 3;
  await withReflector(
    async (_server, events) => assert.equal(events, ["+a", "synced"]),
    (server) => {
      server.put("a");
      server.answer = (_seen, response) => {
        if (refusals === 0) return false;
        refusals -= 1;
        response.writeHead(500).end("no");
        return true;
      };
    },
  );
});

test.run();
