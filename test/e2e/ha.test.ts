// Three replicas of every controller on three nodes: each has its budget, and work that is done once has one leader.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MeshSandbox } from "../support/mesh-sandbox.ts";
import { until } from "../support/until.ts";

const test = suite("high availability");
let sandbox: MeshSandbox;

const CONTROLLERS = ["identity", "destination", "policy", "proxy-injector", "metrics-api"];

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
  sandbox.install("--ha");
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

test.run();
