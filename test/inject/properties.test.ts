// What holds of injection whatever the pod: over templates of every kind, odd ones among them.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decideAdmission } from "../../src/controller/proxy-injector/admission.ts";
import {
  applyPatch,
  type InjectOptions,
  injectResource,
  type Operation,
  type PodTemplate,
  type Resource,
  templateOf,
  uninjectResource,
} from "../../src/inject/index.ts";
import { DEFAULT_VALUES, mergeTrees, type Values } from "../../src/manifests/values.ts";
import { unknownFields } from "../../src/sandbox/apiserver/kinds/known-fields.ts";
import { podDefaults } from "../../src/sandbox/apiserver/kinds/pod-defaults.ts";
import { podErrors } from "../../src/sandbox/apiserver/kinds/pod-validation.ts";

const test = suite("injection, whatever the pod");

const name = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
const nullable = <T>(some: fc.Arbitrary<T>) => fc.oneof({ weight: 5, arbitrary: some }, fc.constant(null));
const map = fc.dictionary(
  fc.oneof(
    fc.stringMatching(/^[a-z]{1,6}$/),
    fc.constantFrom("example.com/a~b", "app.kubernetes.io/name", "x/y"),
  ),
  fc.string({ maxLength: 10 }),
  { maxKeys: 3 },
);
/** Settings that change what containers there are, and where. */
const SETTINGS = {
  "config.linkerd.io/proxy-enable-native-sidecar": ["enabled", "disabled"],
  "config.linkerd.io/proxy-await": ["enabled", "disabled"],
  "config.linkerd.io/enable-debug-sidecar": ["true", "false"],
  "config.linkerd.io/opaque-ports": ["3306", "", "http"],
  "config.linkerd.io/proxy-cpu-request": ["100m", "lots"],
  "config.linkerd.io/nosuch": ["a"],
  "viz.linkerd.io/disable-tap": ["true"],
  "resource.opentelemetry.io/team": ["a\nb"],
} as const;
const settings = fc
  .subarray(Object.keys(SETTINGS) as (keyof typeof SETTINGS)[], { maxLength: 4 })
  .chain((keys) =>
    fc.record(
      Object.fromEntries(keys.map((key) => [key, fc.constantFrom(...(SETTINGS[key] as readonly string[]))])),
    ),
  );
const annotations = fc.tuple(map, settings).map(([own, set]) => ({ ...own, ...set }));

const port = fc.record(
  {
    containerPort: fc.constantFrom(80, 8080, 3306, 53, 65_535),
    name: fc.constantFrom("http", "db"),
    protocol: fc.constantFrom("TCP", "UDP", "SCTP"),
  },
  { requiredKeys: ["containerPort"] },
);
const probe = fc.record({
  httpGet: fc.record({ path: fc.constant("/"), port: fc.oneof(fc.constant(81), fc.constant("http")) }),
});
const container = fc.record(
  {
    name,
    image: name,
    ports: nullable(fc.array(port, { maxLength: 3 })),
    readinessProbe: probe,
    restartPolicy: fc.constant("Always"),
    securityContext: nullable(
      fc.record({
        capabilities: nullable(
          fc.record({ add: nullable(fc.array(fc.constantFrom("NET_BIND_SERVICE", "KILL"))) }),
        ),
      }),
    ),
    lifecycle: fc.constant({ preStop: { exec: { command: ["true"] } } }),
    volumeMounts: nullable(fc.array(fc.record({ name, mountPath: fc.constant("/x") }), { maxLength: 1 })),
  },
  { requiredKeys: ["name"] },
);
const containers = fc.uniqueArray(container, { minLength: 1, maxLength: 3, selector: (each) => each.name });
const spec = fc.record(
  {
    containers,
    initContainers: nullable(fc.uniqueArray(container, { maxLength: 2, selector: (each) => each.name })),
    volumes: nullable(
      fc.uniqueArray(fc.record({ name, emptyDir: fc.constant({}) }), {
        maxLength: 2,
        selector: (each) => each.name,
      }),
    ),
    serviceAccountName: name,
    automountServiceAccountToken: fc.boolean(),
    restartPolicy: fc.constantFrom("Never", "OnFailure"),
  },
  { requiredKeys: ["containers"] },
);
const metadata = fc.record(
  { labels: nullable(map), annotations: nullable(annotations) },
  { requiredKeys: [] },
);
const template = fc.record({ metadata: nullable(metadata), spec }, { requiredKeys: ["spec"] });

const OWNED = [
  "Deployment",
  "ReplicaSet",
  "StatefulSet",
  "DaemonSet",
  "Job",
  "ReplicationController",
] as const;
const VERSIONS: Record<string, string> = {
  Job: "batch/v1",
  CronJob: "batch/v1",
  ReplicationController: "v1",
  Pod: "v1",
};
const generated = fc
  .tuple(fc.constantFrom<string>(...OWNED, "CronJob", "Pod"), name, template)
  .map(([kind, called, pod]): Resource => {
    const head = { apiVersion: VERSIONS[kind] ?? "apps/v1", kind };
    if (kind === "Pod")
      return {
        ...head,
        metadata: { ...pod.metadata, name: called, namespace: "shop" },
        spec: pod.spec,
      } as Resource;
    const own = { ...head, metadata: { name: called, namespace: "shop" } };
    return kind === "CronJob"
      ? { ...own, spec: { schedule: "* * * * *", jobTemplate: { spec: { template: pod } } } }
      : { ...own, spec: { template: pod } };
  });

/** As JSON has it: the generators' objects have no prototype. */
const workload = generated.map((resource) => JSON.parse(JSON.stringify(resource)) as Resource);

const values = fc
  .record({
    cniEnabled: fc.boolean(),
    disableIPv6: fc.boolean(),
    proxy: fc.record({
      nativeSidecar: fc.boolean(),
      tap: fc.constantFrom({ serviceName: "" }, { serviceName: "tap.viz" }),
      tracing: fc.record({
        enabled: fc.boolean(),
        collector: fc.constant({ name: "c:4317", meshIdentity: { serviceAccountName: "c", namespace: "t" } }),
      }),
    }),
  })
  .map((tree) => JSON.parse(JSON.stringify(tree)) as object);
const valuesOf = (tree: object) => mergeTrees(DEFAULT_VALUES, tree) as Values;
const options = fc.record({
  mode: fc.constantFrom("annotate" as const, "manual" as const),
  ingress: fc.boolean(),
  annotations: fc.constant({}),
  values,
});

/** RFC 6902 by the letter: every parent is there, and what is removed or replaced too. */
function strictly(target: unknown, operations: readonly Operation[]): unknown {
  const root = structuredClone(target);
  for (const operation of operations) {
    const path = operation.path
      .split("/")
      .slice(1)
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = path.pop()!;
    let parent: unknown = root;
    for (const part of path) {
      assert.ok(typeof parent === "object" && parent !== null && Object.hasOwn(parent, part), operation.path);
      parent = (parent as Record<string, unknown>)[part];
    }
    assert.ok(typeof parent === "object" && parent !== null, operation.path);
    const value = operation.op === "remove" ? undefined : structuredClone(operation.value);
    if (Array.isArray(parent)) {
      const index = last === "-" ? parent.length : Number(last);
      assert.ok(
        /^(0|[1-9]\d*|-)$/.test(last) && index <= parent.length - (operation.op === "add" ? 0 : 1),
        operation.path,
      );
      if (operation.op === "remove") parent.splice(index, 1);
      else parent.splice(index, operation.op === "replace" ? 1 : 0, value);
    } else {
      const into = parent as Record<string, unknown>;
      if (operation.op !== "add") assert.ok(Object.hasOwn(into, last), operation.path);
      if (operation.op === "remove") delete into[last];
      else into[last] = value;
    }
  }
  return root;
}

type How = Omit<InjectOptions, "values"> & { readonly values: object };

const inject = (resource: Resource, how: How): Resource => {
  const { operations } = injectResource(resource, { ...how, values: valuesOf(how.values) });
  const done = applyPatch(resource, operations);
  assert.equal(strictly(resource, operations), done, "the operations are a JSON patch");
  return done;
};
const uninject = (resource: Resource) => applyPatch(resource, uninjectResource(resource).operations);

/** Fields of the pod and its template that are there and empty become absent: what is injected cannot tell them apart. */
function withoutEmpty(resource: Resource): unknown {
  const isEmpty = (value: unknown) =>
    value === null || (typeof value === "object" && Object.keys(value as object).length === 0);
  const { path } = templateOf(resource)!;
  const copy = structuredClone(resource) as Record<string, never>;
  let pod = copy as Record<string, Record<string, unknown>>;
  for (const part of path.split("/").slice(1)) pod = pod[part] as never;
  for (const part of ["labels", "annotations"])
    if (pod["metadata"] && part in pod["metadata"] && isEmpty(pod["metadata"][part]))
      delete pod["metadata"][part];
  for (const part of ["volumes", "initContainers"])
    if (pod["spec"] && part in pod["spec"] && isEmpty(pod["spec"][part])) delete pod["spec"][part];
  if ("metadata" in pod && isEmpty(pod["metadata"])) delete pod["metadata"];
  return copy;
}

const text = (value: unknown) => JSON.stringify(value);
const RUNS = { numRuns: 300 };

test("injecting twice is injecting once", () => {
  fc.assert(
    fc.property(workload, options, (resource, how) => {
      const once = inject(resource, how);
      assert.equal(inject(once, how), once);
    }),
    RUNS,
  );
});

test("uninjecting takes back exactly what was added, in order", () => {
  fc.assert(
    fc.property(workload, options, (resource, how) => {
      const back = uninject(inject(resource, how));
      assert.is(text(withoutEmpty(back)), text(withoutEmpty(resource)));
    }),
    RUNS,
  );
});

test("containers of the application are not changed, and keep their order", () => {
  fc.assert(
    fc.property(workload, options, (resource, how) => {
      const of = (each: Resource, list: "containers" | "initContainers") =>
        (templateOf(each)!.template.spec?.[list] ?? []).filter(
          (one) => !/^linkerd-(proxy|init|debug|network-validator)$/.test(one.name),
        );
      const done = inject(resource, how);
      for (const list of ["containers", "initContainers"] as const)
        assert.is(text(of(done, list)), text(of(resource, list)));
    }),
    RUNS,
  );
});

/** What the sandbox's API server says against a pod. */
function refusals(pod: Resource): string[] {
  const copy = structuredClone(pod);
  podDefaults(copy);
  const metadata = { name: "pod", namespace: "shop", ...copy.metadata };
  return [
    ...podErrors({ ...copy, metadata } as never, undefined).map((error) => JSON.stringify(error)),
    ...unknownFields("", "Pod", pod),
  ];
}

/** The pod without what no API server takes, as far as the generator makes such things. */
function tidied(pod: Resource): Resource {
  // biome-ignore lint/suspicious/noExplicitAny: any part of a pod.
  const copy = structuredClone(pod) as any;
  const seen = new Set<string>();
  const clean = (list: unknown, isInit: boolean) => {
    for (const each of (list ?? []) as Record<string, unknown>[]) {
      while (seen.has(each["name"] as string)) each["name"] += "x";
      seen.add(each["name"] as string);
      each["image"] ??= "image";
      delete each["volumeMounts"];
      if (isInit && each["restartPolicy"] !== "Always") {
        delete each["lifecycle"];
        delete each["readinessProbe"];
      }
      if (!isInit) delete each["restartPolicy"];
      const [first] = (each["ports"] ?? []) as object[];
      if (first) each["ports"] = [first];
    }
  };
  clean(copy.spec.initContainers, true);
  clean(copy.spec.containers, false);
  if (copy.metadata)
    for (const value of Object.keys(copy.metadata.labels ?? {})) copy.metadata.labels[value] = "v";
  for (const key of Object.keys(copy.metadata?.labels ?? {}))
    if (key.includes("~")) delete copy.metadata.labels[key];
  for (const key of Object.keys(copy.metadata?.annotations ?? {}))
    if (key.includes("~")) delete copy.metadata.annotations[key];
  return copy as Resource;
}

/** The pod that a workload's controller would create. */
function podOf(resource: Resource): Resource {
  const { template: pod } = templateOf(resource)!;
  const bare = { apiVersion: "v1", kind: "Pod", spec: pod.spec };
  if (resource.kind === "Pod") return resource;
  const owner = {
    apiVersion: resource.apiVersion,
    kind: resource.kind!,
    name: resource.metadata!.name!,
    controller: true,
  };
  return { ...bare, metadata: { ...pod.metadata, generateName: `${owner.name}-`, ownerReferences: [owner] } };
}

test("the webhook makes of a pod what the command line makes of its template, and does so once", () => {
  // Whoever made it, and what only one of them can know.
  const comparable = (pod: PodTemplate | undefined) => {
    const { "linkerd.io/created-by": by, ...rest } = pod?.metadata?.annotations ?? {};
    return { labels: pod?.metadata?.labels, annotations: rest, spec: pod?.spec, by: by?.split(" ")[0] };
  };
  let valid = 0;
  fc.assert(
    fc.property(workload, values, (resource, effective) => {
      const pod = podOf(resource);
      const review = (object: Resource) => {
        const request = {
          uid: "1",
          operation: "CREATE",
          namespace: "shop",
          kind: { group: "", version: "v1", kind: "Pod" },
          object,
        };
        const { response } = decideAdmission(request, {
          values: valuesOf(effective),
          namespaceAnnotations: { "linkerd.io/inject": "enabled" },
        });
        const operations = JSON.parse(
          Buffer.from(response.patch ?? "W10=", "base64").toString(),
        ) as Operation[];
        return strictly(object, operations) as Resource;
      };
      const byWebhook = review(pod);
      assert.equal(review(byWebhook), byWebhook, "a second time it changes nothing");
      const tidy = tidied(pod);
      if (refusals(tidy).length === 0) {
        valid += 1;
        assert.equal(refusals(review(tidy)), [], "the API server takes it");
      }
      const byHand = inject(resource, { mode: "manual", ingress: false, annotations: {}, values: effective });
      const [one, other] = [comparable(byWebhook as PodTemplate), comparable(templateOf(byHand)!.template)];
      assert.is(one.by, "linkerd/proxy-injector");
      assert.is(other.by, "linkerd/cli");
      const { "linkerd.io/inject": _inherited, ...annotationsOfOne } = one.annotations;
      assert.equal(annotationsOfOne, other.annotations);
      assert.equal(one.labels, other.labels);
      assert.equal(one.spec, other.spec);
      assert.is(
        text(withoutEmpty(uninject(byWebhook))),
        text(withoutEmpty(pod)),
        "and what it inherited goes with it",
      );
    }),
    RUNS,
  );
  assert.ok(valid > 200, `${valid} of the pods were valid before`);
});

test.run();
