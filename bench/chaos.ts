// `npm run chaos`: the whole mesh in an embedded cluster while everything that can be taken from it is: controllers and
// their proxies are killed, pods deleted, applications rolled out and scaled, the API server goes away and forgets,
// issuers are replaced, pods are cut off. Every request of the application is counted; none may fail.
//
//   npm run chaos -- [--minutes 10] [--seed 7] [--replicas 2 | --ha] [--every 4000] [--events kill,delete,…] [--rate 110] \
//     [--logs DIRECTORY]
import { writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { EVENTS } from "./chaos/events.ts";
import { runChaos } from "./chaos/run.ts";
import { conclude } from "./chaos/verdict.ts";

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    /** Of the events' order. */
    seed: { type: "string", default: String(Date.now() % 100_000) },
    /** Of each controller. */
    replicas: { type: "string", default: "2" },
    /** As `install --ha` has it, on three nodes. */
    ha: { type: "boolean", default: false },
    /** Keeps every container's log there, also of those that are gone. */
    logs: { type: "string" },
    /** Mean time between two events, ms. */
    every: { type: "string", default: "4000" },
    events: { type: "string", default: EVENTS.join() },
    /** Requests a second, of all kinds together. */
    rate: { type: "string", default: "110" },
  },
});

async function main(): Promise<boolean> {
  const rate = Number(flags.rate);
  const wanted = flags.events.split(",");
  const report = await runChaos({
    seconds: Math.round(Number(flags.minutes) * 60),
    seed: Number(flags.seed),
    controllers: flags.ha ? 3 : Number(flags.replicas),
    ha: flags.ha,
    logs: flags.logs,
    every: Number(flags.every),
    events: EVENTS.filter((event) => wanted.includes(event)),
    rates: { web: Math.round(rate * 0.45), rpc: Math.round(rate * 0.35), tcp: Math.round(rate * 0.2) },
    say: (line) => writeSync(2, `${line}\n`),
  });
  const { lines, well } = conclude(report);
  for (const line of lines) writeSync(1, `${line}\n`);
  return well;
}

process.exitCode = (await main()) ? 0 : 1;
