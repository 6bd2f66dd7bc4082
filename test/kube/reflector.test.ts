// The reflector: lists, watches, and what goes wrong between them.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KubeClient, type KubeObject, keyOf, Reflector } from "../../src/kube/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { ApiServer } from "../support/api-server.ts";
import { until } from "../support/until.ts";

const test = suite("reflector");

/** A clock whose waits are short, so that back-off does not slow the tests. */
const quick = {
  ...systemClock,
  after: (ms: number, fn: () => void) => systemClock.after(Math.min(ms, 5), fn),
};

/** The same, with the waits that it was asked for. */
function recorded() {
  const waits: number[] = [];
  const clock = {
    ...quick,
    after(ms: number, fn: () => void) {
      waits.push(ms);
      return quick.after(ms, fn);
    },
  };
  return { clock, waits };
}

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

test("a later list is told whole at once, however many pages it has: nobody acts on a mixture of old and new", () =>
  withReflector(async (server, events, reflector) => {
    const seen: string[][] = [];
    const look = () => setImmediate(() => seen.push([...reflector.list()].map(keyOf).sort()));
    reflector.on({ updated: look, deleted: look });
    server.objects.delete("b");
    server.version += 100;
    server.oldest = server.version;
    for (const name of "acdefg") server.put(name);
    server.cutWatches();
    await until(() => events.filter((e) => e === "synced").length === 2);
    await until(() => seen.length >= 3);
    const whole = [..."acdefg"].map((name) => `ns/${name}`);
    for (const names of seen) assert.equal(names, whole);
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

const failures: [string, number, object, boolean][] = [
  ["too old (410)", 410, { reason: "Expired" }, true],
  ["not a version (400)", 400, { reason: "BadRequest" }, true],
  [
    "a version that the server has not reached",
    504,
    { message: "Too large resource version: 9, current: 3" },
    true,
  ],
  ["too many requests", 429, { reason: "TooManyRequests" }, false],
  ["an error of the server", 500, {}, false],
  ["unavailable", 503, {}, false],
  ["a time-out", 504, { message: "Timeout" }, false],
];
for (const [what, status, body, anew] of failures) {
  test(`a watch refused as ${what} is followed by ${anew ? "a new list" : "another from the same version"}`, () =>
    withReflector(async (server) => {
      let refusals = 1;
      server.answer = ({ url }, response) => {
        if (!url.searchParams.get("watch") || refusals === 0) return false;
        refusals -= 1;
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
        return true;
      };
      const before = server.seen.length;
      server.cutWatches();
      await until(() => refusals === 0 && server.watchers > 0);
      const after = server.seen.slice(before).map(({ url }) => url.searchParams.get("watch") ?? "list");
      assert.is(after.includes("list"), anew);
    }, three));
}

test("a server that was away for long is asked again within seconds, also when it has forgotten the past", async () => {
  const server = new ApiServer();
  const client = new KubeClient(await server.listen());
  const { clock, waits } = recorded();
  const reflector = new Reflector(client, { path: "/api/v1/things", clock });
  let refusals = 0;
  server.answer = (_seen, response) => {
    if (refusals === 0) return false;
    refusals -= 1;
    response.writeHead(503).end();
    return true;
  };
  try {
    reflector.start();
    await reflector.synced;
    await until(() => server.watchers > 0);
    waits.length = 0;
    refusals = 20;
    server.put("a");
    server.version += 100;
    server.oldest = server.version;
    server.cutWatches();
    await until(() => refusals === 0 && server.watchers > 0);
    assert.ok(waits.length >= 20, String(waits));
    assert.ok(
      waits.every((ms) => ms <= 10_000),
      String(waits),
    );
    assert.is(reflector.stats.lists, 2);
    assert.ok(waits.at(-1)! <= 1_600, `the list after 410 waited ${waits.at(-1)} ms`);
  } finally {
    reflector.stop();
    client.close();
    await server.close();
  }
});

test("a server that is not reached is asked again within two seconds, from 200 ms on", async () => {
  const server = new ApiServer();
  const config = await server.listen();
  await server.close();
  const client = new KubeClient(config);
  const { clock, waits } = recorded();
  let failures = 0;
  const options = { path: "/api/v1/things", clock, onError: () => (failures += 1) };
  const reflector = new Reflector(client, options).start();
  try {
    await until(() => failures > 12);
    // The bound of each request is among them.
    const tries = waits.filter((ms) => ms < 30_000);
    assert.ok(tries[0]! <= 400, String(tries));
    assert.ok(
      tries.every((ms) => ms >= 200 && ms <= 2_000),
      String(tries),
    );
  } finally {
    reflector.stop();
    client.close();
  }
});

test("whatever happens between the server and the reflector, in the end it knows what there is, and told every step", async () => {
  const names = [..."abcdef"];
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("put" as const), name: fc.constantFrom(...names) }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("remove" as const), name: fc.constantFrom(...names) }),
    },
    // Deleted and made again: another object of the same name.
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("replace" as const), name: fc.constantFrom(...names) }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("forget" as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("refuse" as const), times: fc.integer({ min: 1, max: 3 }) }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const server = new ApiServer();
      three(server);
      const client = new KubeClient(await server.listen());
      const reflector = new Reflector(client, { path: "/api/v1/things", clock: quick });
      // What somebody knows who only listens: uid and version by name.
      const heard = new Map<string, string>();
      const stamp = ({ metadata }: KubeObject) => `${metadata.uid}@${metadata.resourceVersion}`;
      const wrong: string[] = [];
      reflector.on({
        added(object) {
          if (heard.has(object.metadata.name)) wrong.push(`added twice: ${object.metadata.name}`);
          heard.set(object.metadata.name, stamp(object));
        },
        updated(object, old) {
          if (heard.get(object.metadata.name) !== stamp(old)) wrong.push(`updated from what was not told`);
          if (object.metadata.uid !== old.metadata.uid) wrong.push("another object told as an update");
          heard.set(object.metadata.name, stamp(object));
        },
        deleted(object) {
          if (!heard.delete(object.metadata.name)) wrong.push(`deleted unknown: ${object.metadata.name}`);
        },
      });
      let refusals = 0;
      let uids = 0;
      server.answer = (_seen, response) => {
        if (refusals === 0) return false;
        refusals -= 1;
        response.writeHead(503).end();
        return true;
      };
      const known = () => [...server.objects.values()].map((o) => `${o.metadata.name}=${stamp(o)}`).sort();
      try {
        reflector.start();
        for (const each of steps) {
          if (each.do === "put") server.put(each.name, server.objects.get(each.name)?.metadata.uid);
          else if (each.do === "remove" && server.objects.has(each.name)) server.remove(each.name);
          else if (each.do === "replace") {
            if (server.objects.has(each.name)) server.remove(each.name);
            uids += 1;
            server.put(each.name, `uid-${uids}`);
          } else if (each.do === "cut") server.cutWatches();
          else if (each.do === "forget") {
            // As after a compaction, or a restart: nothing of the past can be asked for.
            server.oldest = server.version;
            server.cutWatches();
          } else if (each.do === "refuse") {
            refusals = each.times;
            server.cutWatches();
          } else await new Promise((resolve) => setTimeout(resolve, 2));
        }
        await until(
          () =>
            JSON.stringify(known()) ===
            JSON.stringify([...reflector.list()].map((o) => `${o.metadata.name}=${stamp(o)}`).sort()),
          10_000,
          "the same objects",
        );
        assert.equal([...heard].map(([name, seen]) => `${name}=${seen}`).sort(), known());
        assert.equal(wrong, []);
      } finally {
        reflector.stop();
        client.close();
        await server.close();
      }
    }),
    { numRuns: 60 },
  );
});

test.run();
