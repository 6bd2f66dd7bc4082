// Metrics as they are counted, exposed and read back.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseMetrics, type Sample } from "../../src/metrics/parse.ts";
import { Registry } from "../../src/metrics/registry.ts";

const test = suite("metrics");

function samplesOf(text: string): Sample[] {
  const samples: Sample[] = [];
  parseMetrics(text, (sample) => samples.push(sample));
  return samples;
}

test("what is exposed is read back, for any label value", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.integer({ min: 0, max: 1e9 }), (value, by) => {
      const registry = new Registry();
      registry.counter("a_total", "a").labels({ x: value, none: undefined }).inc(by);
      assert.equal(samplesOf(registry.expose()), [{ name: "a_total", labels: { x: value }, value: by }]);
    }),
  );
});

test("a histogram is cumulative, with sum and count", () => {
  const registry = new Registry();
  const series = registry.histogram("d_ms", "d", [1, 10]).labels({ a: "b" });
  for (const value of [0.5, 1, 5, 100]) series.observe(value);
  const samples = samplesOf(registry.expose()).map((s) => `${s.name}${s.labels["le"] ?? ""}=${s.value}`);
  assert.equal(samples, [
    "d_ms_bucket1=2",
    "d_ms_bucket10=3",
    "d_ms_bucket+Inf=4",
    "d_ms_sum=106.5",
    "d_ms_count=4",
  ]);
});

test("any number is read back", () => {
  const values = fc.oneof(
    fc.double({ noNaN: true }),
    fc.nat(),
    fc.constantFrom(0, -0, 1e21, 2 ** 32, 2 ** 53),
  );
  fc.assert(
    fc.property(values, (value) => {
      const registry = new Registry();
      registry.gauge("a", "a").labels().set(value);
      assert.is(samplesOf(registry.expose())[0]!.value, value || 0);
    }),
  );
});

test("pieces are small, and together they are the whole, wherever they are cut", () => {
  const registry = new Registry();
  const counter = registry.counter("a_total", "a");
  const histogram = registry.histogram("d_ms", "d", [1, 10, 100]);
  for (let i = 0; i < 500; i += 1) {
    const label = `${i}-${"ä€x".repeat(i % 97)}`;
    counter.labels({ label }).inc(i);
    histogram.labels({ label }).observe(i);
  }
  counter.labels({ label: "x".repeat(100_000) }).inc();
  const pieces = [...registry.pieces()];
  assert.ok(pieces.length > 5);
  assert.is(pieces.filter(({ length }) => length > 65_536).length, 1, "one line is longer than a piece");
  const samples = samplesOf(Buffer.concat(pieces).toString());
  assert.is(samples.length, 501 + 500 * 6);
  for (const { name, labels, value } of samples) {
    const i = Number.parseInt(labels["label"]!, 10);
    if (name === "a_total" && i >= 0) assert.is(value, i);
    if (name === "d_ms_sum") assert.is(value, i);
    if (name === "d_ms_bucket" && labels["le"] === "10") assert.is(value, i <= 10 ? 1 : 0);
  }
});

test("an idle series is dropped and comes back with its value when touched", () => {
  let now = 0;
  const registry = new Registry({ retainIdle: 1_000, now: () => now });
  const series = registry.counter("a_total", "a").labels({ x: 1 });
  series.inc(3);
  assert.is(samplesOf(registry.expose()).length, 1);
  now = 2_000;
  assert.is(samplesOf(registry.expose()).length, 0);
  series.inc();
  assert.is(samplesOf(registry.expose())[0]?.value, 4);
});

test("idle series make room for others also where nobody asks for the exposition", () => {
  let now = 0;
  const registry = new Registry({ seriesLimit: 2, retainIdle: 600_000, now: () => now });
  const family = registry.counter("a_total", "a");
  family.labels({ i: 1 }).inc();
  family.labels({ i: 2 }).inc();
  const wanted = (i: number) => {
    family.labels({ i }).inc();
    return family.overflowed;
  };
  assert.is(wanted(3), 1);
  now += 60_000;
  assert.is(wanted(3), 2, "from now on they count as idle");
  now += 600_000;
  assert.is(wanted(3), 2, "and now they are dropped");
});

test("what comes and goes does not pile up where nobody asks for the exposition", () => {
  let now = 0;
  const registry = new Registry({ retainIdle: 600_000, now: () => now });
  const families = [registry.counter("a_total", "a"), registry.histogram("d_ms", "d", [1, 10])];
  let most = 0;
  for (let pod = 0; pod < 1_000; pod += 1) {
    for (const family of families) {
      const series = family.labels({ pod });
      if ("inc" in series) series.inc();
      else series.observe(pod);
      most = Math.max(most, family.size);
    }
    now += 30_000;
  }
  assert.ok(most <= 25, `a pod in 30 s, kept for 10 min, and ${most} were kept`);
});

test("labels that are counted in several families are told apart from those that follow", () => {
  const registry = new Registry();
  const families = [registry.counter("a_total", "a"), registry.counter("b_total", "b")];
  for (const labels of [{ x: 1 }, { x: 2 }, {}]) for (const family of families) family.labels(labels).inc();
  const lines = samplesOf(registry.expose()).map(({ name, labels }) => `${name}${labels["x"] ?? ""}`);
  assert.equal(lines, ["a_total1", "a_total2", "a_total", "b_total1", "b_total2", "b_total"]);
});

test("a series without labels is never dropped", () => {
  let now = 0;
  const registry = new Registry({ now: () => now });
  registry.counter("a_total", "a").labels().inc();
  registry.expose();
  now = 3_600_000;
  assert.is(samplesOf(registry.expose())[0]?.value, 1);
});

test("a gauge above zero outlives idleness", () => {
  let now = 0;
  const registry = new Registry({ retainIdle: 1_000, now: () => now });
  registry.gauge("open", "o").labels({ a: 1 }).set(2);
  registry.expose();
  now = 5_000;
  assert.is(samplesOf(registry.expose())[0]?.value, 2);
});

test("series beyond the limit share one, and the overflow is counted", () => {
  const registry = new Registry({ seriesLimit: 2 });
  const family = registry.counter("a_total", "a");
  for (let i = 0; i < 10; i += 1) family.labels({ i }).inc();
  const samples = samplesOf(registry.expose());
  assert.is(samples.find((s) => s.name === "a_total" && s.labels["i"] === undefined)?.value, 8);
  const overflow = samples.find((s) => s.name === "mesh_metrics_series_overflow_total");
  assert.equal([overflow?.value, overflow?.labels["family"]], [8, "a_total"]);
});

test("a line that cannot be read is named", () => {
  assert.throws(() => samplesOf("a 1\nb{c=d} 2\n"), /line 2: expected a label/);
  assert.throws(() => samplesOf("a x\n"), /line 1: expected a number/);
  assert.throws(() => samplesOf('a{b="c 1\n'), /line 1/);
});

test.run();
