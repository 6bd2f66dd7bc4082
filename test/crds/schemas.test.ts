// Every kind: its definition is structural, and what the definition's schema says is what the described check says.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkSpec, definitionOf, KINDS, type Kind, kindOf, versionOf } from "../../src/crds/index.ts";
import { reviewObject } from "../../src/rules/admission.ts";
import { applyDefaults, prune, schemaErrors } from "../../src/sandbox/apiserver/crd/schema.ts";
import { structuralErrors } from "../../src/sandbox/apiserver/crd/structural.ts";
import { parse as parseYaml } from "../../src/util/yaml.ts";
import { valuesOf } from "./generated.ts";
import { changed, MISTAKES, STRANGE, VALID } from "./objects.ts";

const test = suite("crds");

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind, wrong ones too.
type Json = any;

/** What an API server makes of a spec: errors by the OpenAPI schema, and the spec as it is stored. */
function byOpenApi(openApi: Json, required: boolean, spec: Json): { errors: unknown[]; stored: Json } {
  // Not structuredClone, which keeps parts that are one object in two places so.
  const object: Json = spec === undefined ? {} : JSON.parse(JSON.stringify({ spec }));
  const root = { type: "object", properties: { spec: openApi }, ...(required ? { required: ["spec"] } : {}) };
  prune(object, root);
  applyDefaults(object, root);
  return { errors: schemaErrors(object, root), stored: object.spec };
}

function kindAndVersion(object: Json): { kind: Kind; openApi: Json; required: boolean } {
  const kind = kindOf(object.apiVersion.split("/")[0], object.kind)!;
  const { spec } = versionOf(kind, object.apiVersion)!;
  return { kind, openApi: spec.openApi(), required: spec.presence === "required" };
}

test("every definition is structural, and served and stored by one version", () => {
  for (const kind of KINDS) {
    const { spec } = definitionOf(kind, {});
    assert.is(spec.versions.filter(({ storage }) => storage).length, 1, kind.kind);
    for (const { name, schema } of spec.versions)
      assert.equal(structuralErrors(schema.openAPIV3Schema, "schema"), [], `${kind.kind} ${name}`);
  }
});

test("every version of every kind has a valid object to show", () => {
  const shown = new Set(
    Object.values(VALID).map((text) => {
      const { apiVersion, kind } = parseYaml(text) as Json;
      return `${apiVersion} ${kind}`;
    }),
  );
  const missing = KINDS.flatMap((kind) =>
    kind.versions.map(({ name }) => `${kind.group}/${name} ${kind.kind}`),
  ).filter((name) => !shown.has(name));
  assert.equal(missing, []);
});

/** Paths of all fields that a schema describes; items of lists are not told apart. */
function fieldsOf(schema: Json, path: string): string[] {
  if (schema.type === "array") return fieldsOf(schema.items, path);
  return Object.entries<Json>(schema.properties ?? {}).flatMap(([name, inner]) => [
    `${path}.${name}`,
    ...fieldsOf(inner, `${path}.${name}`),
  ]);
}

function pathsOf(value: Json, path: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => pathsOf(item, path));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries<Json>(value).flatMap(([name, inner]) => [
    `${path}.${name}`,
    ...pathsOf(inner, `${path}.${name}`),
  ]);
}

test("every field of every kind is in a valid object", () => {
  const used = new Set(
    Object.values(VALID).flatMap((text) => {
      const { apiVersion, kind, spec } = parseYaml(text) as Json;
      return pathsOf(spec, `${apiVersion.split("/")[0]}/${kind}`);
    }),
  );
  const unused = KINDS.flatMap((kind) =>
    fieldsOf(kind.versions.at(-1)!.spec.openApi(), `${kind.group}/${kind.kind}`),
  ).filter((path) => !used.has(path));
  assert.equal(unused, []);
});

for (const [name, text] of Object.entries(VALID)) {
  test(`valid: ${name}`, () => {
    const object = parseYaml(text) as Json;
    const { openApi, required, kind } = kindAndVersion(object);
    const { errors, stored } = byOpenApi(openApi, required, object.spec);
    assert.equal(errors, []);
    assert.equal(
      prune({ ...object, spec: structuredClone(object.spec ?? {}) }.spec, openApi),
      [],
      "nothing is lost",
    );
    const checked = checkSpec(kind, object);
    assert.equal(checked.problems, []);
    assert.equal(checked.value, stored, "both fill in the same defaults");
    assert.equal(reviewObject(object).problems, []);
    assert.equal(reviewObject({ ...object, spec: stored }).problems, [], "also as it is stored");
  });
}

for (const { of, set, path, says, schema } of MISTAKES) {
  test(`invalid: ${of}, ${JSON.stringify(set)}`, () => {
    const object = changed(parseYaml(VALID[of]!), set);
    const { openApi, required, kind } = kindAndVersion(object);
    const { errors } = byOpenApi(openApi, required, object.spec);
    assert.is(errors.length > 0, schema, `the CRD's schema says ${JSON.stringify(errors)}`);
    const verdict = reviewObject(object);
    // What the Gateway API's own definitions refuse is not the mesh's to refuse: a newer one may allow it.
    const theirs = schema && kind.owner === "gateway-api";
    if (theirs) assert.equal(verdict.problems, []);
    const problems = theirs ? verdict.warnings : verdict.problems;
    const told = problems.map((problem) => `${problem.path}: ${problem.message}`).join("\n");
    const found = problems.find((problem) => problem.path === path);
    assert.ok(found, `a problem at ${path} in\n${told || "(none)"}`);
    assert.match(found.message, says);
  });
}

for (const [of, set, path, says] of STRANGE) {
  test(`strange: ${of}, ${JSON.stringify(set)}`, () => {
    const { problems, warnings } = reviewObject(changed(parseYaml(VALID[of]!), set));
    assert.equal(problems, []);
    const found = warnings.find((warning) => warning.path === path);
    assert.ok(found, JSON.stringify(warnings));
    assert.match(found.message, says);
  });
}

test("what is as it should be has no warning", () => {
  const strange = new Set(STRANGE.filter(([, set]) => Object.keys(set).length === 0).map(([of]) => of));
  for (const [name, text] of Object.entries(VALID))
    if (!strange.has(name)) assert.equal(reviewObject(parseYaml(text)).warnings, [], name);
});

for (const kind of KINDS) {
  test(`the OpenAPI schema and the described check agree on ${kind.group} ${kind.kind}`, () => {
    for (const { name, spec } of kind.versions) {
      const openApi = spec.openApi() as Json;
      fc.assert(
        fc.property(valuesOf(openApi), (value) => {
          const { errors, stored } = byOpenApi(openApi, spec.presence === "required", value);
          const input = {
            apiVersion: `${kind.group}/${name}`,
            kind: kind.kind,
            spec: structuredClone(value),
          };
          const { problems, value: read } = checkSpec(kind, input, false);
          assert.is(problems.length > 0, errors.length > 0, JSON.stringify({ value, problems, errors }));
          if (errors.length === 0) assert.equal(read, stored);
          // With its rules the check refuses whatever the schema refuses.
          if (errors.length > 0) assert.ok(checkSpec(kind, input).problems.length > 0);
        }),
        { numRuns: 150 },
      );
    }
  });
}

test("whatever is written, it is judged: nothing throws, and nothing is told without a path", () => {
  fc.assert(
    fc.property(fc.nat(KINDS.length - 1), fc.jsonValue({ maxDepth: 5 }), fc.nat(), (which, value, pick) => {
      const kind = KINDS[which]!;
      const { name } = kind.versions[pick % kind.versions.length]!;
      const head = { apiVersion: `${kind.group}/${name}`, kind: kind.kind, metadata: { name: "a.b" } };
      const parentRefs = [
        value,
        { group: value, kind: "Service", name: "x" },
        { kind: "Service", name: "x" },
      ];
      for (const spec of [
        value,
        { parentRefs },
        { parentRefs: value },
        { routes: [value], rules: [value] },
      ]) {
        const { problems, warnings } = reviewObject({ ...head, spec });
        for (const { path } of [...problems, ...warnings]) assert.ok(path.startsWith("spec"), path);
      }
    }),
    { numRuns: 1_000 },
  );
});

test.run();
