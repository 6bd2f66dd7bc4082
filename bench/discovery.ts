// `npm run bench:discovery`: what it costs to tell proxies what they watch. The destination controller, or the policy
// controller, runs as in the image; a generated cluster and its proxies run beside it in this process, so
// that its memory is its own.
//
//   npm run bench:discovery -- [--only scale,services,endpoints,proxies,rate] [--seconds 10] [--write]
//   npm run bench:discovery -- --only policy,policy-rate,policy-namespaces,policy-services,policy-proxies [--seconds 10]
//   npm run bench:discovery -- --only churn,policy-churn --seconds 3600 --rate 30 [--write]
//
// Latency is from the moment at which the API server writes a change to the moment at which a proxy has read it. --write
// puts the charts into docs/.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/util/package-root.ts";
import { drawLines } from "./chart.ts";
import { churnTrend } from "./discovery/churn.ts";
import { destinationSubject } from "./discovery/destination.ts";
import { type PolicyChange, policySubject } from "./discovery/policy.ts";
import { type Result, type RunOptions, run } from "./discovery/run.ts";
import type { Load, SubjectOf } from "./discovery/subject.ts";
import { Bench } from "./harness.ts";

const FULL: Load = {
  services: 1_000,
  endpoints: 10,
  proxies: 1_000,
  watched: 200,
  namespaces: 1,
  rate: 1_000,
};
/** A fifth of the proxies, so that a step is short; what is swept is the one thing that differs. */
const SMALL: Load = { ...FULL, proxies: 200, rate: 200 };
/** Policies are many teams', and change less often than endpoints. */
const POLICY: Load = { ...FULL, namespaces: 20, rate: 100 };
/** For packages that are not modules. */
const REQUIRE = 'import{createRequire as r}from"node:module";const require=r(import.meta.url);';
/** Charts of a course have so many ticks. */
const TICKS = 6;

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "scale,services,endpoints,proxies,rate,churn" },
    seconds: { type: "string" },
    /** Changes a second, of churn. */
    rate: { type: "string" },
    write: { type: "boolean", default: false },
    /** Where the controller writes its CPU profile. */
    profile: { type: "string" },
    /** Flags of Node's for the controller, beside those that it has. */
    node: { type: "string", default: "" },
  },
});

interface Step {
  readonly name: string;
  readonly subject: SubjectOf;
  readonly load: Load;
}

interface Sweep {
  readonly title: string;
  readonly head: string;
  readonly steps: readonly Step[];
}

const steps = (
  subject: SubjectOf,
  base: Load,
  key: "services" | "endpoints" | "proxies" | "namespaces" | "rate",
  sizes: readonly number[],
): Step[] =>
  sizes.map((size) => ({ name: size.toLocaleString("en"), subject, load: { ...base, [key]: size } }));

const ENDPOINTS = destinationSubject(false);
const WITH_PROFILES = destinationSubject(true);
const ROUTES = policySubject("routes");
const POLICY_CHANGES: Readonly<Record<PolicyChange, string>> = {
  pods: "pods that are no proxies'",
  routes: "HTTPRoutes",
  servers: "Servers",
  authentications: "MeshTLSAuthentications",
};

const SWEEPS: Readonly<Record<string, Sweep>> = {
  scale: {
    title: "1,000 proxies × 200 Services, 10,000 pods, 1,000 changes a second",
    head: "streams for each Service",
    steps: [
      { name: "endpoints", subject: ENDPOINTS, load: FULL },
      { name: "endpoints and profile", subject: WITH_PROFILES, load: FULL },
    ],
  },
  services: {
    title: "By the number of Services (10 pods each; each of 200 proxies watches 200; 200 changes a second)",
    head: "Services",
    steps: steps(WITH_PROFILES, SMALL, "services", [200, 1_000, 2_000]),
  },
  endpoints: {
    title: "By the endpoints of a Service (200 Services, 200 proxies, 200 changes a second)",
    head: "endpoints",
    steps: steps(WITH_PROFILES, { ...SMALL, services: 200 }, "endpoints", [1, 10, 100]),
  },
  proxies: {
    title: "By the number of proxies (1,000 Services, each proxy watches 200; 200 changes a second)",
    head: "proxies",
    steps: steps(WITH_PROFILES, SMALL, "proxies", [10, 100, 1_000]),
  },
  rate: {
    title: "By changes a second (1,000 proxies × 200 of 1,000 Services, endpoints alone)",
    head: "changes/s",
    steps: steps(ENDPOINTS, FULL, "rate", [10, 100, 300, 1_000]),
  },
  policy: {
    title: "Policy: 1,000 proxies × 200 Services, 10,000 pods, 20 namespaces, 100 changes a second",
    head: "what changes",
    steps: Object.entries(POLICY_CHANGES).map(([kind, name]) => ({
      name,
      subject: policySubject(kind as PolicyChange),
      load: POLICY,
    })),
  },
  "policy-rate": {
    title: "Policy by changes of HTTPRoutes a second (1,000 proxies × 200 of 1,000 Services)",
    head: "changes/s",
    steps: steps(ROUTES, POLICY, "rate", [10, 100, 300, 1_000]),
  },
  "policy-namespaces": {
    title:
      "Policy by the number of namespaces (200 proxies × 200 of 1,000 Services, 100 HTTPRoutes a second)",
    head: "namespaces",
    steps: steps(ROUTES, { ...POLICY, proxies: 200 }, "namespaces", [1, 10, 100]),
  },
  "policy-services": {
    title: "Policy by the number of Services (200 proxies × 200 of them, 100 HTTPRoutes a second)",
    head: "Services",
    steps: steps(ROUTES, { ...POLICY, proxies: 200 }, "services", [200, 1_000, 2_000]),
  },
  "policy-proxies": {
    title: "Policy by the number of proxies (each watches 200 of 1,000 Services, 100 HTTPRoutes a second)",
    head: "proxies",
    steps: steps(ROUTES, POLICY, "proxies", [10, 100, 1_000]),
  },
};

const HEADS = [
  "streams",
  "changes",
  "told/s",
  "missed",
  "p50 ms",
  "p99 ms",
  "max ms",
  "CPU, cores",
  "CPU around it",
  "MB idle",
  "MB after",
  "RSS after",
];

const cellsOf = (result: Result): string[] => [
  result.streams.toLocaleString("en"),
  result.changes.toLocaleString("en"),
  Math.round(result.told).toLocaleString("en"),
  String(result.missed),
  result.p50.toFixed(1),
  result.p99.toFixed(1),
  result.max.toFixed(1),
  result.cpu.toFixed(3),
  result.around.toFixed(3),
  result.idle.anonymous.toFixed(0),
  result.after.anonymous.toFixed(0),
  result.after.rss.toFixed(0),
];

const say = (...lines: string[]) => process.stdout.write(`${lines.join("\n")}\n`);
const row = (...cells: string[]) => `| ${cells.join(" | ")} |`;
const write = (id: string, chart: Parameters<typeof drawLines>[0]) => {
  const name = id.startsWith("policy") ? id : `discovery-${id}`;
  if (flags.write) writeFileSync(join(packageRoot(), `docs/${name}.svg`), drawLines(chart));
};

async function sweep(bench: Bench, id: string, { title, head, steps }: Sweep): Promise<void> {
  say(`### ${title}`, "", row(head, ...HEADS), `|${"---|".repeat(HEADS.length + 1)}`);
  const results: Result[] = [];
  for (const { name, subject, load } of steps) {
    const result = await run({
      ...optionsOf(bench),
      subject,
      load,
      seconds: Number(flags.seconds ?? 10),
      every: 5,
    });
    results.push(result);
    say(row(name, ...cellsOf(result)));
  }
  say("");
  if (id === "scale" || id === "policy") return;
  write(id, {
    title,
    ticks: steps.map(({ name }) => name),
    lines: [
      { label: "CPU, % of a core", kind: "ours", values: results.map(({ cpu }) => cpu * 100) },
      { label: "memory, MB", kind: "direct", values: results.map(({ after }) => after.anonymous) },
      { label: "p99, ms", kind: "naive", values: results.map(({ p99 }) => p99) },
    ],
    digits: 1,
  });
}

/** Whether memory stays: of endpoints, and of the policy of proxies' own ports, whose Servers are replaced by others. */
const CHURNS: Readonly<Record<string, Omit<Step, "name">>> = {
  churn: { subject: WITH_PROFILES, load: { ...FULL, proxies: 200, rate: 30 } },
  "policy-churn": { subject: policySubject("servers"), load: { ...POLICY, proxies: 200, rate: 30 } },
};

async function churn(bench: Bench, id: string, step: Omit<Step, "name">): Promise<void> {
  const seconds = Number(flags.seconds ?? 120);
  const load = { ...step.load, rate: Number(flags.rate ?? step.load.rate) };
  const title = `Memory in ${(seconds / 60).toFixed(0)} min of ${load.rate} changes a second`;
  say(`### ${title}`, "", "s | changes | anonymous MB | RSS MB", "---|---|---|---");
  const result = await run({
    ...optionsOf(bench),
    subject: step.subject,
    load,
    seconds,
    every: Math.max(1, seconds / 360),
    onSample: ({ at, changes, anonymous, rss }) =>
      say(`${at.toFixed(0)} | ${changes} | ${anonymous.toFixed(1)} | ${rss.toFixed(1)}`),
  });
  const { perHour, low, high, perChange, verdict } = churnTrend(result.course);
  say(
    "",
    row("", ...HEADS),
    `|${"---|".repeat(HEADS.length + 1)}`,
    row(id, ...cellsOf(result)),
    "",
    `memory: ${perHour.toFixed(2)} MB an hour (99 %: ${low.toFixed(2)} to ${high.toFixed(2)}), ${perChange.toFixed(0)} bytes a change: ${verdict}`,
    "",
  );
  const every = Math.ceil(result.course.length / TICKS);
  write(id, {
    title,
    ticks: result.course.map(({ at }, index) => (index % every === 0 ? `${Math.round(at / 60)} min` : "")),
    lines: [
      { label: "RSS, MB", kind: "haproxy", values: result.course.map(({ rss }) => rss) },
      { label: "anonymous, MB", kind: "ours", values: result.course.map(({ anonymous }) => anonymous) },
    ],
    digits: 0,
  });
}

function optionsOf(bench: Bench): Pick<RunOptions, "bench" | "flags"> {
  const profile = flags.profile ? ["--cpu-prof", `--cpu-prof-dir=${flags.profile}`] : [];
  return { bench, flags: [...flags.node.split(" ").filter((flag) => flag !== ""), ...profile] };
}

const bench = await Bench.open({ seconds: 0, rounds: 1, quick: false, profile: flags.profile }, [
  {
    entryPoints: ["destination", "policy"].map((name) =>
      join(packageRoot(), `bench/discovery/${name}-controller.ts`),
    ),
    outbase: join(packageRoot(), "bench"),
    banner: { js: REQUIRE },
  },
]);
try {
  for (const id of flags.only.split(",")) {
    const known = SWEEPS[id];
    const churning = CHURNS[id];
    if (churning) await churn(bench, id, churning);
    else if (known) await sweep(bench, id, known);
    else throw new Error(`expected one of ${Object.keys({ ...SWEEPS, ...CHURNS })}, got ${id}`);
  }
} finally {
  await bench.close();
}
