// A stream as it is found in repositories, through injection and back.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import {
  type InjectOptions,
  injectResource,
  type Resource,
  templateOf,
  transformStream,
  uninjectResource,
} from "../../src/inject/index.ts";
import { DEFAULT_VALUES, mergeTrees, type Values } from "../../src/manifests/values.ts";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("workloads of a shop");
const SHOP = readFileSync(join(packageRoot(), "test/fixtures/inject/shop.yaml"), "utf8");
const manual = (tree: object = {}): InjectOptions => ({
  mode: "manual",
  ingress: false,
  annotations: {},
  values: mergeTrees(DEFAULT_VALUES, tree) as Values,
});
const annotate: InjectOptions = { mode: "annotate", ingress: false, annotations: {} };
const inject = (options: InjectOptions) =>
  transformStream(SHOP, "shop.yaml", (resource) => injectResource(resource, options));
const told = (options: InjectOptions) =>
  inject(options).resources.map(({ label, outcome, reasons, warnings }) =>
    [label, outcome, ...reasons, ...warnings].join(" "),
  );

const OUTCOMES = (done: string) => [
  "namespace/shop annotated",
  `deployment/web ${done}`,
  `statefulset/db ${done}`,
  `job/seed- ${done}`,
  `cronjob/report ${done}`,
  "daemonset/exporter skipped host_network_enabled",
  `deployment/dns ${done} udp_ports_enabled`,
  "deployment/foreign skipped sidecar_already_exists",
  "service/db untouched unsupported_resource",
  "replicationcontroller/old skipped injection_disable_annotation_present",
  `pod/bare ${done}`,
  "deployment/ untouched unsupported_resource",
];

test("each workload is meshed or left alone for a reason", () => {
  assert.equal(told(annotate), OUTCOMES("annotated"));
  assert.equal(told(manual()), OUTCOMES("injected"));
});

test("comments live on, and what is left alone keeps every byte", () => {
  const { text } = inject(manual());
  for (const comment of SHOP.matchAll(/#.*$/gm)) assert.match(text, comment[0]);
  for (const part of ["# sees the node's own network", "kind: Deployment # somebody else's"]) {
    const document = SHOP.split(/^---\n/m).find((each) => each.includes(part))!;
    assert.ok(text.includes(document), part);
  }
});

const objects = (text: string) => parseAllDocuments(text).map((document) => document.toJS());

for (const [what, options] of [
  ["by annotation", annotate],
  ["native", manual()],
  ["not native", manual({ proxy: { nativeSidecar: false } })],
  ["with a CNI plugin and debug containers", manual({ cniEnabled: true, debugContainer: { enabled: true } })],
] as const) {
  test(`${what}: a second time changes nothing, and uninjecting gives back what there was`, () => {
    const once = inject(options).text;
    assert.is(transformStream(once, "-", (resource) => injectResource(resource, options)).text, once);
    const back = transformStream(once, "-", uninjectResource).text;
    // The wish on a Namespace goes too; of `metadata: {}` nothing is left.
    const expected = objects(SHOP);
    delete expected[4].spec.jobTemplate.spec.template.metadata;
    assert.equal(objects(back), expected);
  });
}

test("containers stand in the order that their starts need", () => {
  const names = (options: InjectOptions, kind: string) => {
    const found = inject(options)
      .objects()
      .map((each) => each as Resource)
      .find((each) => each.kind === kind && each.apiVersion !== "example.com/v1")!;
    const { initContainers, containers } = templateOf(found)!.template.spec!;
    return [initContainers ?? [], containers ?? []].map((list) => list.map(({ name }) => name).join(" "));
  };
  assert.equal(names(manual(), "Deployment"), ["linkerd-init linkerd-proxy migrate shipper", "web cache"]);
  assert.equal(names(manual({ proxy: { nativeSidecar: false } }), "Deployment"), [
    "linkerd-init migrate shipper",
    "linkerd-proxy web cache",
  ]);
  assert.equal(names(manual({ proxy: { nativeSidecar: false, await: false } }), "Job"), [
    "linkerd-init",
    "seed linkerd-proxy",
  ]);
  assert.equal(names(manual({ cniEnabled: true, debugContainer: { enabled: true } }), "StatefulSet"), [
    "linkerd-network-validator linkerd-proxy",
    "db linkerd-debug",
  ]);
});

test.run();
