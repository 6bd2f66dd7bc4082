// Three replicas of every controller on three nodes: each has its budget, work that is done once has one leader, and
// whatever is taken from them, while the application is rolled out under load, costs no request.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type EventName, Issuers } from "../../bench/chaos/events.ts";
import { chaosOn, installMesh } from "../../bench/chaos/run.ts";
import { conclude } from "../../bench/chaos/verdict.ts";
import { MeshSandbox } from "../support/mesh-sandbox.ts";
import { until } from "../support/until.ts";

const test = suite("high availability");
let sandbox: MeshSandbox;

const issuers = new Issuers();

const CONTROLLERS = ["identity", "destination", "policy", "proxy-injector", "metrics-api"];
/** About as many as there is time for; every controller is killed, and all are rolled at once. */
const EVENTS: readonly EventName[] = [
  ...(["restart-controllers", "rollout", "kill", "restart-api", "rollout", "kill", "kill-proxy"] as const),
  ...(["delete-application", "kill", "rollout", "cut-api", "kill", "policy", "issuer", "kill"] as const),
  ...(["partition", "scale", "kill"] as const),
];

interface Pod {
  readonly metadata: { readonly name: string; readonly labels: Record<string, string> };
  readonly spec: { readonly nodeName: string };
  readonly status: { readonly conditions: { readonly type: string; readonly status: string }[] };
}

const pods = (component?: string): Pod[] =>
  sandbox
    .json<{ items: Pod[] }>("get", "pods", "-n", "mesh-system")
    .items.filter(
      ({ metadata }) =>
        component === undefined || metadata.labels["linkerd.io/control-plane-component"] === component,
    );
const isReady = ({ status }: Pod): boolean =>
  status.conditions.some(({ type, status: is }) => type === "Ready" && is === "True");
const holderOf = (lease: string): string =>
  sandbox.ask("get", "lease", "-n", "mesh-system", lease, "-o", "jsonpath={.spec.holderIdentity}");

test.before(async () => {
  sandbox = await MeshSandbox.up(3);
  installMesh(sandbox, issuers, "--ha");
});
test.after(() => sandbox.down());

test("every controller has three ready replicas on three nodes, and a budget that lets one go", async () => {
  for (const component of CONTROLLERS) {
    await until(() => pods(component).filter(isReady).length === 3, 120_000, `three of ${component}`);
    assert.is(new Set(pods(component).map(({ spec }) => spec.nodeName)).size, 3, component);
    const budget = () =>
      sandbox.json<{ status: { disruptionsAllowed: number } }>(
        "get",
        "pdb",
        "-n",
        "mesh-system",
        `mesh-${component}`,
      ).status.disruptionsAllowed;
    await until(() => budget() === 1, 30_000, `budget of ${component}`);
  }
});

test("work that is done once has one leader, and another follows when its pod goes", async () => {
  const leases = ["policy-controller-write", "mesh-proxy-injector-credentials"];
  for (const lease of leases) {
    await until(() => holderOf(lease) !== "", 60_000, `a holder of ${lease}`);
    const first = holderOf(lease);
    assert.ok(
      pods().some(({ metadata }) => metadata.name === first),
      `${lease} is held by ${first}`,
    );
    sandbox.ask("delete", "pod", "-n", "mesh-system", first, "--wait=false");
    await until(() => ![first, ""].includes(holderOf(lease)), 60_000, `another holder of ${lease}`);
  }
});

test("under chaos no request of the application fails, and in the end proxies know the endpoints that there are", async () => {
  const report = await chaosOn(sandbox, issuers, {
    seconds: 60,
    seed: 7,
    controllers: 3,
    every: 2_400,
    events: EVENTS,
    inTurn: true,
    rates: { web: 20, rpc: 16, tcp: 10 },
    say: () => {},
  });
  const told = conclude(report).lines.join("\n");
  assert.is(report.failures.length, 0, told);
  assert.is(report.problems.length, 0, told);
  for (const [kind, { sent, ok }] of Object.entries(report.sums)) assert.ok(ok > 0 && ok === sent, kind);
  assert.ok(report.events.length >= 10, told);
});

test.run();
