// Annotating YAML without touching anything else of it.
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import { injectResource, transformStream, uninjectResource } from "../../src/inject/index.ts";
import { DEFAULT_VALUES } from "../../src/manifests/values.ts";
import { MeshError } from "../../src/util/error.ts";

const annotate = { mode: "annotate", ingress: false, annotations: {} } as const;
const manual = { mode: "manual", ingress: false, annotations: {}, values: DEFAULT_VALUES } as const;
const inject = (text: string, options: Parameters<typeof injectResource>[1] = annotate) =>
  transformStream(text, "-", (resource) => injectResource(resource, options)).text;
const uninject = (text: string) => transformStream(text, "-", uninjectResource).text;
const objects = (text: string) => parseAllDocuments(text).map((document) => document.toJS());

const WEB = `# the front end
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web # its name
spec:
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        # the only one
        - name: web
          image: web:1
          ports: [{containerPort: 8080}]
`;

test("annotating keeps comments, order and style of everything else", () => {
  assert.is(
    inject(WEB),
    WEB.replace(
      "      labels: {app: web}\n",
      "      labels: {app: web}\n      annotations:\n        linkerd.io/inject: enabled\n",
    ),
  );
});

test("documents that are not workloads keep every byte", () => {
  const config = "---  # first\napiVersion: v1\nkind:   ConfigMap\ndata: { a:   'b' }\n# end\n";
  const custom = "---\napiVersion: example.com/v1\nkind: Deployment\nspec:   {template: {}}\n";
  const out = inject(`${config}---\n${WEB}${custom}`);
  assert.ok(out.startsWith(config));
  assert.ok(out.endsWith(custom));
  assert.match(out, "linkerd.io/inject: enabled");
});

test("what is annotated already is not touched", () => {
  const once = inject(WEB);
  assert.is(inject(once), once);
});

test("the items of a List are injected in place", () => {
  const list = `apiVersion: v1\nkind: List\nitems:\n${WEB.split("\n")
    .filter((line) => line !== "")
    .map((line, index) => (index === 0 ? `- ${line}` : `  ${line}`))
    .join("\n")
    .replace("- # the front end\n  ", "- ")}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web}\n`;
  const result = transformStream(list, "-", (resource) => injectResource(resource, manual));
  assert.equal(
    result.resources.map(({ label, outcome }) => `${label} ${outcome}`),
    ["deployment/web injected", "service/web untouched"],
  );
  const [{ items }] = objects(result.text);
  assert.equal(
    items[0].spec.template.spec.initContainers.map((container: { name: string }) => container.name),
    ["linkerd-init", "linkerd-proxy"],
  );
});

test("anchors and merge keys of one workload are not changed through another", () => {
  const shared = `apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec: &spec
  template:
    metadata: &meta
      annotations: &annotations {a: b}
    spec:
      containers: [{name: c}]
---
apiVersion: v1
kind: List
items:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: x}
    spec: &inner
      template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: y}
    data: *inner
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: z}
    spec:
      <<: *inner
      replicas: 2
`;
  const [, { items }] = parseAllDocuments(inject(shared), { merge: true }).map((d) => d.toJS());
  assert.is(items[2].spec.template.metadata.annotations["linkerd.io/inject"], "enabled");
  assert.equal(items[0].spec.template.metadata.annotations, { "linkerd.io/inject": "enabled" });
});

test("octal modes, yes and on survive a rewrite as Kubernetes reads them", () => {
  const text = WEB.replace(
    "      containers:",
    "      volumes: [{name: v, secret: {defaultMode: 0644}}]\n      hostIPC: yes\n      containers:",
  );
  const out = inject(text, manual);
  assert.match(out, "defaultMode: 0644");
  assert.match(out, "hostIPC: yes");
  const json = transformStream(text, "-", (resource) => injectResource(resource, manual)).objects()[0] as {
    spec: { template: { spec: { volumes: { secret: { defaultMode: number } }[]; hostIPC: boolean } } };
  };
  assert.is(json.spec.template.spec.volumes[0]!.secret.defaultMode, 0o644);
  assert.is(json.spec.template.spec.hostIPC, true);
});

test("bad YAML is told by document and line of the stream", () => {
  assert.throws(
    () => inject(`${WEB}---\nkind: Service\n---\nkind: Pod\nspec:\n  a: [1\nb: 2\n`, annotate),
    /-: document 3, line 2[0-9]: /,
  );
  assert.throws(
    () => inject("kind: Service\n---\n- 1\n"),
    /document 2, line 2: expected a Kubernetes object/,
  );
  assert.throws(() => inject("a: &a [x]\nb: *c\n"), /document 1, line 1: Unresolved alias/);
});

test("an empty stream and comments alone come out as they are", () => {
  for (const text of ["", "\n", "# nothing\n", "---\n# nothing\n---\n"]) assert.is(inject(text), text);
});

test("JSON goes in as well", () => {
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "web" },
    spec: { template: { spec: { containers: [{ name: "c" }] } } },
  };
  const out = objects(inject(JSON.stringify(deployment, undefined, 2)))[0];
  assert.equal(out.spec.template.metadata, { annotations: { "linkerd.io/inject": "enabled" } });
});

test("no input does worse than a MeshError", () => {
  const token = fc.oneof(
    fc.constantFrom(
      "---\n",
      "kind: ",
      "apiVersion: apps/v1\n",
      "Deployment\n",
      "spec:\n",
      "  template:\n",
      "    spec:\n",
    ),
    fc.constantFrom(
      "containers: ",
      "[",
      "]",
      "{",
      "}",
      "- ",
      "&a ",
      "*a ",
      "<<: ",
      "!!",
      "|\n",
      "? ",
      ": ",
      "\r\n",
      "items:\n",
      "List\n",
    ),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(
    fc.property(fc.array(token, { maxLength: 30 }), (tokens) => {
      for (const options of [annotate, manual]) {
        try {
          inject(tokens.join(""), options);
        } catch (error) {
          if (!(error instanceof MeshError)) throw error;
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test("a part of the wrong type is told by document and path", () => {
  const broken = `apiVersion: v1\nkind: List\nitems:\n- ${WEB.replace("# the front end\n", "").replace("name: web\n          image", "name: 5\n          image").trimEnd().replaceAll("\n", "\n  ")}\n`;
  assert.throws(
    () => inject(`---\na: b\n---\n${broken}`),
    /-: document 2: items\.0\.spec\.template\.spec\.containers\[0\]\.name: expected text, got 5/,
  );
});

test("objects with parts of the wrong type are refused or passed, never mangled", () => {
  const junk = fc.oneof(
    fc.constant(null),
    fc.integer(),
    fc.string(),
    fc.constant([]),
    fc.constant([null]),
    fc.constant({}),
    fc.constant([{}]),
    fc.constant([1]),
  );
  const pod = fc.record(
    {
      metadata: fc.oneof(junk, fc.record({ labels: junk, annotations: junk, name: junk })),
      spec: fc.oneof(
        junk,
        fc.record({ containers: junk, initContainers: junk, volumes: junk, hostNetwork: junk }),
      ),
    },
    { requiredKeys: [] },
  );
  const resource = fc.record({
    apiVersion: fc.constant("apps/v1"),
    kind: fc.constant("Deployment"),
    metadata: fc.record({ name: junk }),
    spec: fc.oneof(junk, fc.record({ template: fc.oneof(junk, pod) })),
  });
  fc.assert(
    fc.property(resource, (object) => {
      for (const options of [annotate, manual]) {
        try {
          inject(JSON.stringify(object), options);
        } catch (error) {
          if (!(error instanceof MeshError)) throw error;
        }
      }
    }),
    {
      numRuns: 1000,
      // A workload without a name, which owns nothing.
      examples: [
        [
          {
            apiVersion: "apps/v1",
            kind: "Deployment",
            metadata: { name: null },
            spec: { template: { spec: { containers: [] } } },
          },
        ],
      ],
    },
  );
});

const name = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
const strings = fc.dictionary(
  fc.stringMatching(/^[a-z]{1,6}(\/[a-z~]{1,4})?$/),
  fc.string({ maxLength: 12 }),
  { minKeys: 1, maxKeys: 3 },
);
const container = fc.record(
  {
    name,
    image: name,
    ports: fc.array(fc.record({ containerPort: fc.integer({ min: 1, max: 65_535 }) }), {
      minLength: 1,
      maxLength: 3,
    }),
    env: fc.array(fc.record({ name, value: fc.string({ maxLength: 20 }) }), { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: ["name"] },
);
const list = <T>(item: fc.Arbitrary<T>) => fc.array(item, { minLength: 1, maxLength: 3 });
const template = fc.record(
  {
    metadata: fc.record({ labels: strings, annotations: strings, name }, { requiredKeys: ["name"] }),
    spec: fc.record(
      { containers: list(container), initContainers: list(container), volumes: list(fc.record({ name })) },
      { requiredKeys: ["containers"] },
    ),
  },
  { requiredKeys: ["spec"] },
);
const workload = fc.oneof(
  fc.record({
    apiVersion: fc.constant("apps/v1"),
    kind: fc.constantFrom("Deployment", "DaemonSet", "StatefulSet"),
    metadata: fc.record({ name }),
    spec: fc.record({ template }),
  }),
  fc.record({
    apiVersion: fc.constant("batch/v1"),
    kind: fc.constant("CronJob"),
    metadata: fc.record({ name }),
    spec: fc.record({ jobTemplate: fc.record({ spec: fc.record({ template }) }) }),
  }),
);
const stream = fc
  .array(workload, { minLength: 1, maxLength: 3 })
  .map((items) => items.map((item) => JSON.stringify(item, undefined, 1)).join("\n---\n"));

for (const options of [annotate, manual]) {
  test(`${options.mode}: uninject takes back exactly what inject added, and injecting twice is injecting once`, () => {
    fc.assert(
      fc.property(stream, (text) => {
        const once = inject(text, options);
        assert.is.not(once, text);
        assert.is(inject(once, options), once);
        assert.equal(objects(uninject(once)), objects(text));
        assert.is(uninject(text), text);
      }),
      { numRuns: 60 },
    );
  });
}

test.run();
