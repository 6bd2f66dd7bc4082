// Starts one service of the demo application by name; settings come from the environment.
import { startBot } from "./bot.ts";
import { startEmoji } from "./emoji.ts";
import type { Running } from "./http.ts";
import { startTally } from "./tally.ts";
import { startVoting } from "./voting.ts";
import { startWeb } from "./web.ts";

export const SERVICES = ["web", "emoji", "voting", "tally", "bot"] as const;
export type ServiceName = (typeof SERVICES)[number];

/** Kubernetes sends SIGTERM and takes the pod out of its Services at the same time: keep serving meanwhile, ms. */
const LINGER = 2_000;

type Stoppable = Pick<Running, "close"> & { readonly port?: number };

export async function startService(name: string, env: NodeJS.ProcessEnv): Promise<Stoppable> {
  const port = Number(env["PORT"] ?? 8080);
  switch (name) {
    case "web":
      return startWeb(port, {
        emoji: env["EMOJI_URL"] ?? "http://emoji:8080",
        voting: env["VOTING_URL"] ?? "http://voting:8080",
      });
    case "emoji":
      return startEmoji(port);
    case "voting":
      return startVoting(port, env["TALLY_ADDRESS"] ?? "tally:7000");
    case "tally":
      return startTally(port);
    case "bot": {
      const bot = startBot({
        web: env["WEB_URL"] ?? "http://web:80",
        rate: Number(env["RATE"] ?? 10),
        log: (line) => process.stdout.write(`${line}\n`),
      });
      return { close: async () => bot.stop() };
    }
    default:
      throw new Error(`expected one of ${SERVICES.join(", ")}, got ${JSON.stringify(name)}`);
  }
}

/** Runs the service until SIGTERM or SIGINT. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const name = argv[0] ?? "";
  const service = await startService(name, env);
  process.stdout.write(`${name} is running${service.port === undefined ? "" : ` on port ${service.port}`}\n`);
  const stop = (signal: NodeJS.Signals) => {
    process.stdout.write(`${signal}: finishing\n`);
    setTimeout(() => void service.close().then(() => process.exit(0)), name === "bot" ? 0 : LINGER);
    // Whoever holds a connection open does not hold the pod.
    setTimeout(() => process.exit(0), LINGER + 5_000).unref();
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}
