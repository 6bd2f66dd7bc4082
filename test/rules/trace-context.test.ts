// Trace contexts in every form.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readTraceContext, type TraceContext, traceFields } from "../../src/rules/trace-context.ts";

const test = suite("trace context");
const read = (fields: Record<string, string>) => readTraceContext((name) => fields[name]);

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";

test("W3C, with its state", () => {
  assert.equal(read({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: "a=b" }), {
    traceId: TRACE,
    spanId: SPAN,
    sampled: true,
    form: "w3c",
    state: "a=b",
  });
  assert.is(read({ traceparent: `00-${TRACE}-${SPAN}-00` })!.sampled, false);
  assert.ok(read({ traceparent: `01-${TRACE}-${SPAN}-01-more` }), "a later version may say more");
});

for (const traceparent of [
  `ff-${TRACE}-${SPAN}-01`,
  `00-${TRACE}-${SPAN}-01-more`,
  `00-${"0".repeat(32)}-${SPAN}-01`,
  `00-${TRACE}-${"0".repeat(16)}-01`,
  `00-${TRACE.toUpperCase()}-${SPAN}-01`,
  `00-${TRACE}-${SPAN}`,
  "",
]) {
  test(`${traceparent || "nothing"} is no context`, () => assert.is(read({ traceparent }), undefined));
}

test("B3 in one field and in several, with short trace ids", () => {
  assert.equal(
    [read({ b3: `${TRACE}-${SPAN}-1-${SPAN}` }), read({ b3: `${SPAN}-${SPAN}` })].map((found) => [
      found!.traceId,
      found!.sampled,
    ]),
    [
      [TRACE, true],
      [SPAN.padStart(32, "0"), false],
    ],
  );
  const multi = { "x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1" };
  assert.is(read(multi)!.form, "b3-multi");
  assert.is(read({ ...multi, "x-b3-spanid": "x" }), undefined);
});

test("W3C goes before gRPC's form, and that before B3", () => {
  const grpc = Buffer.from(`0000${TRACE}01${SPAN}0201`, "hex").toString("base64");
  const all = { traceparent: `00-${TRACE}-${SPAN}-01`, "grpc-trace-bin": grpc, b3: `${TRACE}-${SPAN}-1` };
  assert.is(read(all)!.form, "w3c");
  assert.is(read({ ...all, traceparent: "x" })!.form, "grpc");
  assert.is(read({ b3: all.b3 })!.form, "b3-single");
});

test("what is handed on reads as the same trace with the new span", () => {
  const hex = (size: number) =>
    fc.uint8Array({ minLength: size, maxLength: size }).map((bytes) => {
      bytes[0]! |= 1;
      return Buffer.from(bytes).toString("hex");
    });
  const forms = fc.constantFrom<TraceContext["form"]>("w3c", "grpc", "b3-single", "b3-multi");
  fc.assert(
    fc.property(hex(16), hex(8), hex(8), fc.boolean(), forms, (traceId, spanId, next, sampled, form) => {
      const context: TraceContext = { traceId, spanId, sampled, form, state: "" };
      assert.equal(read(Object.fromEntries(traceFields(context, next))), { ...context, spanId: next });
    }),
  );
});

test.run();
