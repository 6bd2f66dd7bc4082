// How long the command line takes: to start, and to inject a large file.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/util/package-root.ts";
import { type Bench, PROXY_CORE } from "../harness.ts";
import type { Row } from "../stage.ts";
import { median, spread } from "../statistics.ts";

const DEPLOYMENTS = 1_000;

export const commandLine: Row = {
  id: "command-line",
  title: "The command line",
  needs: [],
  async measure({ bench }) {
    const mesh = join(packageRoot(), "bin/run.js");
    if (!existsSync(join(packageRoot(), "dist"))) throw new Error("there is no dist/: npm run build first");
    const manifest = bench.write("deployments.yaml", deployments());
    const commands = {
      "node -e 0": ["-e", "0"],
      "kubectl mesh version --client": [mesh, "version", "--client"],
      [`kubectl mesh inject, ${DEPLOYMENTS} Deployments`]: [mesh, "inject", manifest],
    };
    const times = Object.keys(commands).map((): number[] => []);
    const rounds = bench.options.quick ? 3 : 15;
    for (let round = 0; round < rounds; round += 1) {
      for (const [index, args] of Object.values(commands).entries())
        times[index]!.push(await timed(bench, args));
    }
    const [bare, version, inject] = times.map(median) as [number, number, number];
    return {
      tables: [
        {
          columns: [
            { head: "ms", digits: 0 },
            { head: "±", digits: 0, suffix: " %" },
            { head: "vs node -e 0", digits: 2, suffix: "×" },
          ],
          rows: Object.keys(commands).map((name, index) => {
            const ms = median(times[index]!);
            return { name, cells: [ms, spread(times[index]!) * 100, ms / bare] };
          }),
        },
      ],
      verdicts: [
        {
          work: "kubectl mesh version --client",
          sense: "at most",
          limit: 2,
          value: version / bare,
          unit: "× node -e 0",
        },
        {
          work: `kubectl mesh inject of ${DEPLOYMENTS} Deployments, after start-up`,
          sense: "at most",
          limit: 1,
          value: (inject - version) / 1_000,
          unit: " s",
        },
      ],
      failures: [],
      notes: [`Medians of ${rounds} runs in turns.`],
    };
  },
};

/** How long a command takes, ms. */
async function timed(bench: Bench, args: readonly string[]): Promise<number> {
  const started = performance.now();
  await bench.run("node", PROXY_CORE, process.execPath, args);
  return performance.now() - started;
}

const deployments = (): string =>
  Array.from(
    { length: DEPLOYMENTS },
    (_, i) => `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-${i}
  namespace: shop
  labels: { app: web-${i} }
spec:
  replicas: 2
  selector: { matchLabels: { app: web-${i} } }
  template:
    metadata:
      labels: { app: web-${i} }
    spec:
      containers:
        - name: web
          image: example.test/web:1.${i}
          ports: [{ name: http, containerPort: 8080 }]
          env: [{ name: MODE, value: production }]
          resources: { requests: { cpu: 100m, memory: 64Mi } }
`,
  ).join("---\n");
