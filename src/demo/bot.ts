// A visitor who never tires: opens the page now and then and votes about ten times a second.

import { EMOJI } from "./emoji.ts";
import { HttpClient } from "./http.ts";
import { BROKEN } from "./voting.ts";

export interface BotOptions {
  /** Base URL of the web front end. */
  readonly web: string;
  /** Votes a second. */
  readonly rate: number;
  readonly random?: () => number;
  readonly log?: (line: string) => void;
}

export interface Bot {
  readonly votes: number;
  readonly failures: number;
  stop(): void;
}

/** Share of the votes that go to the emoji that fails. */
const BROKEN_SHARE = 0.15;
/** Calls that may wait for an answer at once; beyond it the bot skips its turn. */
const MAX_IN_FLIGHT = 20;
/** Votes between two looks at the page and the leaderboard. */
const LOOK_EVERY = 10;
const REPORT_EVERY = 100;

export function startBot(options: BotOptions): Bot {
  const client = new HttpClient(options.web);
  const random = options.random ?? Math.random;
  const log = options.log ?? (() => {});
  const others = EMOJI.filter((emoji) => emoji.name !== BROKEN);
  const state = { votes: 0, failures: 0, inFlight: 0 };

  const visit = async (method: string, path: string) => {
    state.inFlight += 1;
    try {
      await client.call(method, path);
    } catch {
      if (method === "POST") state.failures += 1;
    } finally {
      state.inFlight -= 1;
    }
  };

  const timer = setInterval(() => {
    if (state.inFlight >= MAX_IN_FLIGHT) return;
    const name = random() < BROKEN_SHARE ? BROKEN : others[Math.floor(random() * others.length)]!.name;
    state.votes += 1;
    void visit("POST", `/api/vote?choice=${name}`);
    if (state.votes % LOOK_EVERY === 0) {
      void visit("GET", "/api/list");
      void visit("GET", "/api/leaderboard");
    }
    if (state.votes % REPORT_EVERY === 0) log(`voted ${state.votes} times, ${state.failures} votes failed`);
  }, 1000 / options.rate);

  return {
    get votes() {
      return state.votes;
    },
    get failures() {
      return state.failures;
    },
    stop: () => {
      clearInterval(timer);
      client.close();
    },
  };
}
