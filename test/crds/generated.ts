// Values made from an OpenAPI schema: mostly right, sometimes wrong in one of the ways in which people are wrong.
import fc from "fast-check";

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI schema, and any value.
type Json = any;

const NOISE = fc.constantFrom<Json>(null, true, 0, -1, 1.5, 70_000, "", "x", "A b", "10s", [], {}, { a: 1 }, [
  "x",
]);

/** Texts for the patterns that the kinds use. */
const TEXTS = [
  "web",
  "a.b-c",
  "*.example.com",
  "Server",
  "policy.linkerd.io",
  "core",
  "",
  "10s",
  "1h30m",
  "500m",
  "GET",
  "/a",
  "2026-01-02T03:04:05Z",
  "x".repeat(254),
  "ü",
];

export function valuesOf(schema: Json): fc.Arbitrary<Json> {
  return fc.oneof({ weight: 30, arbitrary: right(schema) }, { weight: 1, arbitrary: NOISE });
}

function right(schema: Json): fc.Arbitrary<Json> {
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema["x-kubernetes-int-or-string"])
    return fc.oneof(fc.nat(70_000), fc.constantFrom("http", "500m", "1", "x y"));
  switch (schema.type) {
    case "string":
      return fc.constantFrom(...fitting(schema));
    case "boolean":
      return fc.boolean();
    case "integer":
    case "number": {
      const { minimum = -5, maximum = 100_000 } = schema;
      return fc.oneof(
        { weight: 20, arbitrary: fc.integer({ min: minimum, max: Math.min(maximum, 2 ** 31 - 1) }) },
        { weight: 1, arbitrary: fc.constantFrom(minimum - 1, maximum + 1, 2 ** 31) },
      );
    }
    case "array":
      return fc.array(valuesOf(schema.items), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min((schema.maxItems ?? 3) + 1, 3),
      });
    default:
      return object(schema);
  }
}

/** Those that fit, with one that does not. */
function fitting({ pattern, minLength = 0, maxLength = 1e9, format }: Json): string[] {
  const fits = TEXTS.filter(
    (text) =>
      text.length >= minLength &&
      text.length <= maxLength &&
      (pattern === undefined || new RegExp(pattern).test(text)) &&
      (format !== "duration" || /^(10s|1h30m|500m)$/.test(text)) &&
      (format !== "date-time" || text.startsWith("2026")),
  );
  const wrong = TEXTS.filter((text) => !fits.includes(text)).slice(0, 1);
  return [...fits, ...fits, ...fits, ...wrong];
}

function object(schema: Json): fc.Arbitrary<Json> {
  const properties: Record<string, fc.Arbitrary<Json>> = Object.fromEntries(
    Object.entries<Json>(schema.properties ?? {}).map(([name, property]) => [name, valuesOf(property)]),
  );
  if (!schema.properties)
    return fc.dictionary(
      fc.constantFrom("app", "tier", "a/b"),
      valuesOf(schema.additionalProperties ?? { type: "string" }),
      { maxKeys: 2 },
    );
  const wanted: string[] = schema.required ?? [];
  const one: string[] = (schema.oneOf ?? []).map((each: Json) => each.required[0]);
  const whole = fc.record(properties, { requiredKeys: wanted });
  return fc
    .tuple(whole, fc.nat(), fc.nat(30), fc.constantFrom(...Object.keys(properties)))
    .chain(([value, pick, luck, name]) => {
      const keep = one.length > 0 && luck > 0 ? one[pick % one.length]! : undefined;
      const rest = Object.fromEntries(
        Object.entries(value).filter(([key]) => keep === undefined || key === keep || !one.includes(key)),
      );
      const extended =
        keep === undefined || keep in rest
          ? fc.constant(rest)
          : properties[keep]!.map((added) => ({ ...rest, [keep]: added }));
      return extended.map((made: Record<string, Json>) => {
        // A field that is left out, null, or not known.
        if (luck === 1) delete made[name];
        if (luck === 2) made[name] = null;
        if (luck === 3) made["unknownField"] = 1;
        return made;
      });
    });
}
