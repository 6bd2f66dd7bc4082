// The slices of ExternalWorkloads: what is made of Services and workloads, with how few changes, and by whom.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ExternalSliceWriter } from "../../../src/controller/destination/external-slice-writer.ts";
import { sliceChanges } from "../../../src/controller/destination/external-slices.ts";
import type { WorkloadRecord } from "../../../src/controller/destination/external-workload.ts";
import { KubeApiError } from "../../../src/kube/error.ts";
import type { EndpointSlice } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { withWaits } from "../../support/clock.ts";
import { until } from "../../support/until.ts";
import { service, workload } from "./rig.ts";

const test = suite("slices of external workloads");

const web = (
  ports = [{ name: "http", port: 80, targetPort: "http" as string | number }],
  families = ["IPv4"],
) => service({ ports, selector: { app: "web" }, ipFamilies: families });

/** An API server's endpointslices, as far as the writer can tell. */
class Slices {
  readonly all = new Map<string, EndpointSlice>();
  readonly writes: string[] = [];
  #version = 0;
  refuse: string | undefined;

  #write(what: string, slice: EndpointSlice): EndpointSlice {
    if (this.refuse === what) throw new KubeApiError(500, { message: "no" }, what);
    this.#version += 1;
    const { metadata } = slice;
    const name = metadata.name ?? `${(metadata as { generateName?: string }).generateName}${this.#version}`;
    const kept = { ...slice, metadata: { ...metadata, name, resourceVersion: String(this.#version) } };
    this.writes.push(`${what} ${slice.endpoints?.length}`);
    this.all.set(name, kept);
    return kept;
  }

  client = {
    create: async (slice: EndpointSlice) => this.#write("create", slice),
    replace: async (_path: string, slice: EndpointSlice) => this.#write("update", slice),
    delete: async (path: string) => {
      this.writes.push("delete");
      this.all.delete(path.slice(path.lastIndexOf("/") + 1));
    },
  };

  /** What `changes` would leave. */
  apply(changes: ReturnType<typeof sliceChanges>): void {
    for (const each of changes.create) this.#write("create", each);
    for (const each of changes.update) this.#write("update", each);
    for (const { metadata } of changes.remove) this.all.delete(metadata.name);
  }

  names(): string[] {
    return [...this.all.values()].flatMap(({ endpoints }) =>
      endpoints!.map(({ targetRef }) => targetRef!.name!),
    );
  }
}

const many = (count: number): WorkloadRecord[] =>
  Array.from({ length: count }, (_, at) => workload(`vm-${at}`, `192.0.${at >> 8}.${at & 255}`));

test("a slice: name, labels, owner, ports by name, conditions", () => {
  const { create } = sliceChanges(
    web(),
    [workload("vm", "192.0.2.1"), workload("off", "192.0.2.2", {}, false)],
    [],
  );
  assert.is(create.length, 1);
  const [made] = create;
  assert.is((made!.metadata as { generateName?: string }).generateName, "linkerd-external-web-");
  assert.equal(made!.metadata.labels, {
    "kubernetes.io/service-name": "web",
    "endpointslice.kubernetes.io/managed-by": "linkerd-external-workloads-controller",
  });
  assert.equal(
    made!.metadata.ownerReferences?.map(({ kind, uid }) => [kind, uid]),
    [["Service", "uid-svc"]],
  );
  assert.equal(made!.ports, [{ name: "http", port: 9090, protocol: "TCP" }]);
  assert.equal(
    made!.endpoints!.map(({ addresses, conditions, targetRef }) => [
      addresses[0],
      conditions?.ready,
      targetRef?.kind,
    ]),
    [
      ["192.0.2.2", false, "ExternalWorkload"],
      ["192.0.2.1", true, "ExternalWorkload"],
    ],
  );
});

test("numbers of a port that differ, and families, have slices of their own", () => {
  const { create } = sliceChanges(
    web(undefined, ["IPv4", "IPv6"]),
    [
      workload("a", "192.0.2.1", { workloadIPs: [{ ip: "192.0.2.1" }, { ip: "2001:db8::1" }] }),
      workload("b", "192.0.2.2", { ports: [{ name: "http", port: 7070, protocol: "TCP" }] }),
    ],
    [],
  );
  assert.equal(create.map(({ addressType, ports }) => `${addressType} ${ports![0]!.port}`).sort(), [
    "IPv4 7070",
    "IPv4 9090",
    "IPv6 9090",
  ]);
});

test("a Service that selects nothing, an ExternalName and one that is gone have none", () => {
  const slices = new Slices();
  slices.apply(sliceChanges(web(), many(3), []));
  for (const none of [
    undefined,
    service({ ports: [] }),
    service({ type: "ExternalName", selector: { app: "web" } }),
    // Made anew: the garbage collector and we take the old one's away.
    service({ selector: { app: "web" } }, { uid: "another" }),
  ]) {
    const { remove, update } = sliceChanges(none, many(3), [...slices.all.values()]);
    assert.equal([remove.length, update.length], [1, 0]);
  }
});

test("workloads that come and go change as little as can be, and no slice is above 100", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 249 }), { maxLength: 250 }), {
        minLength: 1,
        maxLength: 5,
      }),
      (rounds) => {
        const slices = new Slices();
        const all = many(250);
        for (const round of rounds) {
          const now = round.map((at) => all[at]!);
          slices.apply(sliceChanges(web(), now, [...slices.all.values()]));
          assert.equal(slices.names().sort(), now.map(({ name }) => name).sort());
          for (const { endpoints } of slices.all.values())
            assert.ok(endpoints!.length > 0 && endpoints!.length <= 100);
          const again = sliceChanges(web(), now, [...slices.all.values()]);
          assert.equal([again.create.length, again.update.length, again.remove.length], [0, 0, 0]);
        }
      },
    ),
    { numRuns: 50 },
  );
});

class Leading {
  isLeader = false;
  listeners: ((leading: boolean) => void)[] = [];
  onChange(fn: (leading: boolean) => void): () => void {
    this.listeners.push(fn);
    return () => {};
  }
  set(leading: boolean): void {
    this.isLeader = leading;
    for (const fn of this.listeners) fn(leading);
  }
}

function writerOf(slices: Slices, leadership: Leading): ExternalSliceWriter {
  const clock = withWaits((ms) => Math.min(ms, 5));
  return new ExternalSliceWriter({
    leadership,
    client: slices.client as never,
    clock,
    log: createLogger({ level: "off" }),
  });
}

test("only the leader writes; who takes over finishes what is to be done, and does nothing twice", async () => {
  const slices = new Slices();
  const [first, second] = [new Leading(), new Leading()];
  const writers = [writerOf(slices, first), writerOf(slices, second)];
  first.set(true);
  for (const writer of writers) {
    writer.putService(web());
    writer.putWorkload(workload("vm-a", "192.0.2.1"));
  }
  await until(() => slices.all.size === 1);
  for (const writer of writers) for (const slice of slices.all.values()) writer.putSlice(slice);
  first.set(false);
  for (const writer of writers) writer.putWorkload(workload("vm-b", "192.0.2.2"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(slices.writes, ["create 1"]);
  second.set(true);
  await until(() => slices.names().length === 2);
  assert.equal(slices.writes, ["create 1", "update 2"]);
  writers[1]!.removeWorkload("emoji", "vm-a");
  writers[1]!.removeWorkload("emoji", "vm-b");
  await until(() => slices.all.size === 0);
  for (const writer of writers) writer.stop();
});

test("a write that fails is tried again", async () => {
  const slices = new Slices();
  slices.refuse = "create";
  const leading = new Leading();
  leading.set(true);
  const writer = writerOf(slices, leading);
  writer.putService(web());
  writer.putWorkload(workload("vm", "192.0.2.1"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(slices.all.size, 0);
  slices.refuse = undefined;
  await until(() => slices.all.size === 1);
  assert.equal(slices.writes, ["create 1"]);
  writer.stop();
});

test.run();
