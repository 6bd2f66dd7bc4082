// Leader election: candidates on clocks that we hold, before an API server that can be slow, away and raced.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  KubeApiError,
  KubeClient,
  LeaderElection,
  type Lease,
  NotLeaderError,
} from "../../src/kube/index.ts";
import { Registry } from "../../src/metrics/registry.ts";
import type { Clock } from "../../src/util/clock.ts";
import { startHarness } from "../sandbox/apiserver/harness.ts";
import { ApiServer } from "../support/api-server.ts";
import { ManualClock } from "../support/clock.ts";
import { until } from "../support/until.ts";

const test = suite("lease");

/** One Lease with optimistic concurrency, and a network of which each candidate has its own piece. */
class LeaseServer {
  lease: Lease | undefined;
  version = 0;
  writes: string[] = [];
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  /** @param network ms that a request takes there, and back; undefined: it gets no further */
  client(network: () => { there: number; back: number } | undefined): Pick<KubeClient, "request"> {
    const travel = (ms: number) => new Promise<void>((resolve) => void this.#clock.after(ms, resolve));
    return {
      request: async (path, { method = "GET", body, timeout } = {}) => {
        const way = network();
        const exchange = async () => {
          if (!way) return new Promise<never>(() => {});
          await travel(way.there);
          // A request that was given up may arrive all the same.
          const answer = this.#answer(path, method, body as Lease);
          await travel(way.back);
          if (answer instanceof Error) throw answer;
          return answer;
        };
        return Promise.race([
          exchange(),
          travel(timeout ?? 30_000).then(() => {
            throw new Error("timeout");
          }),
        ]);
      },
    };
  }

  #answer(path: string, method: string, body: Lease): Lease | KubeApiError {
    const refuse = (code: number, reason: string) => new KubeApiError(code, { reason }, `${method} ${path}`);
    if (method === "POST" && this.lease) return refuse(409, "AlreadyExists");
    if (method !== "POST" && !this.lease) return refuse(404, "NotFound");
    if (method === "GET") return this.lease!;
    if (method === "PUT" && body.metadata.resourceVersion !== this.lease?.metadata.resourceVersion)
      return refuse(409, "Conflict");
    this.version += 1;
    this.writes.push(body.spec?.holderIdentity ?? "");
    this.lease = structuredClone({
      ...body,
      metadata: { ...body.metadata, resourceVersion: String(this.version) },
    });
    return this.lease;
  }
}

interface Candidate {
  readonly election: LeaderElection;
  readonly told: boolean[];
  away: boolean;
}

function world(
  names: readonly string[],
  clockOf: (clock: ManualClock, at: number) => Clock = (clock) => clock,
) {
  const clock = new ManualClock();
  const server = new LeaseServer(clock);
  const candidates = names.map((identity, at): Candidate => {
    const told: boolean[] = [];
    const candidate = { told, away: false } as Candidate & { election: LeaderElection };
    candidate.election = new LeaderElection({
      client: server.client(() => (candidate.away ? undefined : { there: 1, back: 1 })),
      namespace: "mesh-system",
      name: "work",
      identity,
      clock: clockOf(clock, at),
    });
    candidate.election.onChange((leading) => told.push(leading));
    return candidate;
  });
  const leaders = () => candidates.filter(({ election }) => election.isLeader);
  return { clock, server, candidates, leaders };
}

test("the first takes the Lease and writes it as Kubernetes' own controllers do; the second waits", async () => {
  const { clock, server, candidates } = world(["a", "b"]);
  candidates[0]!.election.start();
  await clock.advance(100);
  candidates[1]!.election.start();
  await clock.advance(60_000);
  assert.equal(
    candidates.map(({ told }) => told),
    [[true], []],
  );
  assert.is(candidates[1]!.election.holder, "a");
  const { renewTime, ...spec } = server.lease!.spec!;
  assert.equal(spec, {
    holderIdentity: "a",
    leaseDurationSeconds: 15,
    acquireTime: "1970-01-01T00:00:00.002000Z",
    leaseTransitions: 0,
  });
  assert.match(renewTime!, /^1970-01-01T00:0\d:\d\d\.\d{6}Z$/);
  // Renewed every two seconds, no more.
  assert.ok(Math.abs(server.writes.length - 30) <= 1, `${server.writes.length} writes`);
});

test("one that leaves gives the Lease back, and the next does not wait for its end", async () => {
  const { clock, server, candidates } = world(["a", "b"]);
  candidates[0]!.election.start();
  await clock.advance(100);
  candidates[1]!.election.start();
  await clock.advance(10_000);
  const stopped = candidates[0]!.election.stop();
  assert.not(candidates[0]!.election.isLeader, "it leads no more at once");
  await clock.advance(10);
  await stopped;
  assert.is(server.lease?.spec?.holderIdentity, undefined);
  await clock.advance(4_400);
  assert.equal(
    candidates.map(({ told }) => told),
    [[true, false], [true]],
  );
  assert.is(server.lease?.spec?.leaseTransitions, 1);
  await candidates[0]!.election.stop();
  assert.is(server.lease?.spec?.holderIdentity, "b", "a second stop takes nothing from the next");
});

test("one that cannot renew stops before another begins, and stays a candidate", async () => {
  const { clock, candidates, leaders } = world(["a", "b"]);
  candidates[0]!.election.start();
  await clock.advance(100);
  candidates[1]!.election.start();
  await clock.advance(10_000);
  candidates[0]!.away = true;
  let none = 0;
  for (let at = 0; at < 25_000; at += 100) {
    await clock.advance(100);
    assert.ok(leaders().length <= 1, `two leaders after ${at} ms`);
    if (leaders().length === 0) none += 100;
  }
  assert.ok(candidates[1]!.election.isLeader);
  assert.ok(none >= 2_000 && none <= 10_000, `${none} ms without a leader`);
  candidates[0]!.away = false;
  await clock.advance(10_000);
  assert.equal(candidates[0]!.told, [true, false]);
});

test("while the API server is away nobody leads for longer than the deadline; the same one goes on after", async () => {
  const { clock, server, candidates, leaders } = world(["a", "b"]);
  candidates[0]!.election.start();
  await clock.advance(100);
  candidates[1]!.election.start();
  await clock.advance(10_000);
  for (const candidate of candidates) candidate.away = true;
  await clock.advance(10_100);
  assert.is(leaders().length, 0);
  await clock.advance(60_000);
  assert.is(leaders().length, 0);
  for (const candidate of candidates) candidate.away = false;
  await clock.advance(10_000);
  assert.is(leaders().length, 1);
  assert.ok(server.lease!.spec!.leaseTransitions! <= 1);
});

test("wall clocks that disagree by hours, either way, change nothing", async () => {
  for (const skew of [-7_200_000, 7_200_000]) {
    const { clock, candidates, leaders } = world(["a", "b"], (base, at) => ({
      now: () => base.now() + 10_000_000 + at * skew,
      monotonic: base.monotonic,
      after: (ms, fn) => base.after(ms, fn),
      clear: (timer) => base.clear(timer),
      random: base.random,
    }));
    candidates[0]!.election.start();
    await clock.advance(100);
    candidates[1]!.election.start();
    await clock.advance(120_000);
    assert.equal(
      candidates.map(({ told }) => told),
      [[true], []],
      `skew ${skew}`,
    );
    assert.is(leaders().length, 1);
  }
});

test("a Lease that somebody deletes or gives to another is noticed at the next renewal", async () => {
  const { clock, server, candidates } = world(["a"]);
  const { election, told } = candidates[0]!;
  election.start();
  await clock.advance(5_000);
  server.lease = undefined;
  await clock.advance(5_000);
  assert.ok(election.isLeader, "it made a new one");
  assert.equal(told, [true]);
  const { spec, metadata } = server.lease!;
  server.lease = {
    metadata: { ...metadata, resourceVersion: "900" },
    spec: { ...spec, holderIdentity: "somebody" },
  };
  await clock.advance(2_100);
  assert.equal(told, [true, false]);
  assert.is(election.holder, "somebody");
  await clock.advance(18_000);
  assert.equal(told, [true, false, true], "and after its duration it is free");
});

test("an edit of its labels neither renews a Lease nor ends our leading", async () => {
  const { clock, server, candidates } = world(["a"]);
  candidates[0]!.election.start();
  await clock.advance(5_000);
  server.lease = {
    ...server.lease!,
    metadata: { ...server.lease!.metadata, resourceVersion: "900", labels: { x: "y" } },
  };
  await clock.advance(5_000);
  assert.equal(candidates[0]!.told, [true]);
  assert.equal(server.lease!.metadata.labels, { x: "y" }, "and the label stays");
});

test("an answer that comes after the deadline does not make a leader", async () => {
  const clock = new ManualClock();
  const server = new LeaseServer(clock);
  const client = server.client(() => ({ there: 1, back: 1 }));
  const election = new LeaderElection({
    client: {
      // As in a process that stood still: not even its time-out came in time.
      request: async (path, options) => {
        const answer = await client.request(path, options);
        if (options?.method === "POST")
          await new Promise<void>((resolve) => void clock.after(10_000, resolve));
        return answer;
      },
    },
    namespace: "ns",
    name: "work",
    identity: "a",
    clock,
  });
  election.start();
  await clock.advance(10_010);
  assert.is(server.writes.length, 1, "the Lease was written");
  assert.not(election.isLeader, "but too long ago by now");
  await clock.advance(5_000);
  assert.ok(election.isLeader, "the next attempt finds it ours");
});

test("in any run of partitions, delays and uneven clocks there are never two leaders, and in the end one", async () => {
  const period = fc.record({
    candidate: fc.nat(2),
    away: fc.boolean(),
    there: fc.integer({ min: 0, max: 6_000 }),
    back: fc.integer({ min: 0, max: 6_000 }),
    lasts: fc.integer({ min: 50, max: 12_000 }),
  });
  const rate = fc.constantFrom(0.85, 1, 1.15);
  await fc.assert(
    fc.asyncProperty(
      fc.array(period, { maxLength: 25 }),
      fc.array(rate, { minLength: 3, maxLength: 3 }),
      async (periods, rates) => {
        const base = new ManualClock();
        const server = new LeaseServer(base);
        const networks = rates.map(() => ({ away: false, there: 1, back: 1 }));
        const elections = rates.map((speed, at) => {
          // Of different speeds, and hours apart.
          const clock: Clock = {
            now: () => base.now() * speed + at * 5_000_000,
            monotonic: () => base.monotonic() * speed,
            after: (ms, fn) => base.after(ms / speed, fn),
            clear: (timer) => base.clear(timer),
            random: base.random,
          };
          const network = networks[at]!;
          return new LeaderElection({
            client: server.client(() => (network.away ? undefined : network)),
            namespace: "ns",
            name: "work",
            identity: `c${at}`,
            clock,
          });
        });
        const watch = async (ms: number) => {
          for (let at = 0; at < ms; at += 250) {
            await base.advance(250);
            const leading = elections.filter((election) => election.isLeader);
            assert.ok(leading.length <= 1, `${leading.length} leaders at ${base.now()}`);
          }
        };
        // Looked at by chance between, too: whatever is told of a beginning finds nobody else leading.
        for (const election of elections) {
          election.onChange((leading) => {
            if (leading) assert.is(elections.filter((each) => each.isLeader).length, 1);
          });
          election.start();
        }
        for (const { candidate, lasts, ...network } of periods) {
          Object.assign(networks[candidate]!, network);
          await watch(lasts);
        }
        for (const network of networks) Object.assign(network, { away: false, there: 1, back: 1 });
        await watch(40_000);
        assert.is(elections.filter((election) => election.isLeader).length, 1);
      },
    ),
    { numRuns: 150 },
  );
});

test("no write begins without the Lease, and one under way is cut when it is lost", async () => {
  const clock = new ManualClock();
  const server = new LeaseServer(clock);
  let away = false;
  const election = new LeaderElection({
    client: server.client(() => (away ? undefined : { there: 1, back: 1 })),
    namespace: "ns",
    name: "work",
    identity: "a",
    clock,
  });
  const api = new ApiServer();
  const plain = new KubeClient(await api.listen());
  const client = plain.fencedBy(election);
  const refused = async (write: Promise<unknown>) => {
    try {
      await write;
    } catch (error) {
      return error as Error;
    }
    throw new Error("expected a refusal");
  };
  try {
    api.answer = ({ method }, response) => {
      if (method === "PUT") response.end("{}");
      // A POST is never answered.
      return method !== "GET";
    };
    const object = { metadata: { name: "x" } };
    assert.instance(await refused(client.replace("/api/v1/things/x", object)), NotLeaderError);
    assert.is(api.seen.length, 0);
    await client.request("/api/v1/things");
    assert.is(api.seen.length, 1, "reading needs no Lease");
    election.start();
    await clock.advance(100);
    await client.replace("/api/v1/things/x", object);
    const hanging = refused(client.create(object, "/api/v1/things"));
    await until(() => api.seen.length === 3);
    away = true;
    await clock.advance(10_100);
    assert.match((await hanging).message, /was lost during a write/);
    assert.instance(await refused(client.replace("/api/v1/things/x", object)), NotLeaderError);
    assert.is(api.seen.length, 3);
    await plain.replace("/api/v1/things/x", object);
  } finally {
    plain.close();
    await api.close();
  }
});

test("when it stops, a write under way may end before the Lease goes", async () => {
  const { clock, server, candidates } = world(["a"]);
  const { election } = candidates[0]!;
  election.start();
  await clock.advance(100);
  const signal = election.begin();
  const stopped = election.stop();
  await clock.advance(1_000);
  assert.is(server.lease?.spec?.holderIdentity, "a");
  assert.not(signal.aborted);
  election.end();
  await clock.advance(10);
  await stopped;
  assert.is(server.lease?.spec?.holderIdentity, undefined);
  assert.throws(() => election.begin(), /another one writes/);
});

test("when it stops, a write that does not end is cut before the Lease goes", async () => {
  const { clock, server, candidates } = world(["a"]);
  const { election } = candidates[0]!;
  election.start();
  await clock.advance(100);
  const signal = election.begin();
  const stopped = election.stop();
  await clock.advance(2_010);
  await stopped;
  assert.ok(signal.aborted);
  assert.is(server.lease?.spec?.holderIdentity, undefined);
});

test("whether it leads, and how often that changed, are metrics", async () => {
  const clock = new ManualClock();
  const server = new LeaseServer(clock);
  const registry = new Registry();
  const errors: unknown[] = [];
  let away = false;
  const election = new LeaderElection({
    client: server.client(() => (away ? undefined : { there: 1, back: 1 })),
    namespace: "ns",
    name: "work",
    identity: "a",
    clock,
    registry,
    onError: (error) => errors.push(error),
  });
  const value = (series: string) => new RegExp(`^${series} (\\d+)$`, "m").exec(registry.expose())?.[1];
  assert.is(value('leader_election_master_status{name="work"}'), "0");
  election.start();
  await clock.advance(100);
  assert.is(value('leader_election_master_status{name="work"}'), "1");
  away = true;
  await clock.advance(30_000);
  assert.is(value('leader_election_master_status{name="work"}'), "0");
  assert.is(value('leader_election_changes_total{name="work",leading="true"}'), "1");
  assert.is(value('leader_election_changes_total{name="work",leading="false"}'), "1");
  assert.is(value('leader_election_failures_total{name="work"}'), String(errors.length));
  assert.ok(errors.length >= 3);
});

test("times that leave nobody room to notice are refused", () => {
  const client = { request: async () => ({}) };
  const options = { client, namespace: "ns", name: "n", identity: "a" };
  assert.throws(() => new LeaderElection({ ...options, renewDeadline: 15_000 }), /leaseDuration/);
  assert.throws(() => new LeaderElection({ ...options, retryPeriod: 9_000 }), /renewDeadline/);
});

test("on an API server: one of two leads, the other follows when it leaves, and kubectl shows the holder", async () => {
  const api = await startHarness();
  try {
    await api.call("POST", "/api/v1/namespaces", { body: { metadata: { name: "mesh-system" } } });
    const client = new KubeClient(api.config());
    const candidates = ["pod-a", "pod-b"].map((identity) =>
      new LeaderElection({
        client,
        namespace: "mesh-system",
        name: "work",
        identity,
        labels: { "linkerd.io/control-plane-component": "policy" },
        // As short as a Lease may be (whole seconds): nobody waits long.
        leaseDuration: 2_000,
        renewDeadline: 1_500,
        retryPeriod: 100,
      }).start(),
    );
    await until(() => candidates.some((each) => each.isLeader));
    const first = candidates.find((each) => each.isLeader)!;
    const second = candidates.find((each) => each !== first)!;
    await until(() => second.holder !== undefined);
    assert.not(second.isLeader);
    const shown = await api.call("GET", "/apis/coordination.k8s.io/v1/namespaces/mesh-system/leases/work", {
      headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
    });
    assert.equal(
      shown.body.columnDefinitions.map(({ name }: { name: string }) => name),
      ["Name", "Holder", "Age"],
    );
    assert.is(shown.body.rows[0].cells[1], second.holder);
    const led = new Promise((resolve) => void second.onChange(resolve));
    await first.stop();
    assert.is(await led, true);
    await second.stop();
    client.close();
  } finally {
    await api.close();
  }
});

test("the API server refuses a Lease that a real one would", async () => {
  const api = await startHarness();
  const path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
  try {
    const cases: [object, number, RegExp][] = [
      [{ leaseDurationSeconds: 0 }, 422, /leaseDurationSeconds/],
      [{ leaseTransitions: -1 }, 422, /leaseTransitions/],
      [{ renewTime: "2024-01-01T00:00:00.000Z" }, 400, /2006-01-02T15:04:05\.000000Z07:00/],
      [{ acquireTime: "yesterday" }, 400, /yesterday/],
    ];
    for (const [spec, status, message] of cases) {
      const answer = await api.call("POST", path, { body: { metadata: { name: "x" }, spec } });
      assert.is(answer.status, status, JSON.stringify(spec));
      assert.match(answer.body.message, message);
    }
  } finally {
    await api.close();
  }
});

test.run();
