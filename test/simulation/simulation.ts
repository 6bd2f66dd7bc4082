// One simulation from its seed: faults for some steps, then quiet, then nobody; the rules of invariants.ts are checked
// all the way. The same seed gives the same trace.
import { remains, unsettled } from "./convergence.ts";
import { Faults } from "./faults.ts";
import { Invariants } from "./invariants.ts";
import type { Mutation } from "./replica.ts";
import type { Finding } from "./rules.ts";
import { type Broken, World } from "./world.ts";

export interface SimulationOptions {
  readonly seed: number;
  readonly steps?: number;
  readonly verbose?: boolean;
  /** Something that is broken on purpose. */
  readonly mutation?: Mutation;
}

export interface SimulationResult {
  readonly seed: number;
  readonly steps: number;
  readonly broken: readonly Broken[];
  /** Of the trace. */
  readonly hash: string;
  /** Simulated time, ms, and turns of the simulation. */
  readonly time: number;
  readonly turns: number;
  /** Subscribers that were cut because they did not keep up. */
  readonly cut: number;
}

export const STEPS = 40;
/** Controllers become ready and proxies come. */
const START = 8_000;
/** Rules are looked at this often, ms. */
const LOOK = 400;
/** What is waited for is looked for this often, ms. */
const AGAIN = 10_000;
/** After this without faults everybody knows everything, ms: reflectors and streams wait at most a minute between attempts. */
const QUIET = 120_000;
/** What was asked for before everything was settled is answered, ms. */
const ANSWERED = 10_000;
/** What proxies that vanished without a word left behind is found by now, ms. */
const DESERTED = 40_000;

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { seed, steps = STEPS, verbose = false, mutation } = options;
  const world = new World({ seed, verbose, mutation });
  const invariants = new Invariants(world);
  const pass = async (ms: number, look = LOOK) => {
    for (let left = ms; left > 0 && world.broken.length === 0; left -= look) {
      await world.scheduler.run(Math.min(left, look));
      invariants.check();
    }
  };
  await pass(START);
  for (const proxy of world.proxies.values())
    for (const { namespace, name } of world.cluster.apps)
      if (world.chance.faults.happens(0.6)) world.use(proxy, namespace, name);
  const faults = new Faults(world);
  for (let step = 0; step < steps && world.broken.length === 0; step += 1) await pass(faults.step());
  /** Lets time pass until nothing is found, at most so long: what is found then is a rule broken. */
  const within = async (ms: number, find: () => Finding[]) => {
    for (let left = ms; left > 0 && world.broken.length === 0; left -= AGAIN) {
      await pass(AGAIN, 2_000);
      if (find().length === 0) return;
    }
    if (world.broken.length === 0) for (const { rule, what } of find()) world.break(rule, what);
  };
  if (world.broken.length === 0) {
    world.trace("** the faults stop");
    faults.stop();
    await within(QUIET, () => unsettled(world));
    await pass(ANSWERED, 2_000);
  }
  const { asked } = world.api;
  if (world.broken.length === 0) {
    world.trace("** everybody leaves");
    world.open = false;
    for (const proxy of [...world.proxies.values()]) world.loseProxy(proxy, world.chance.faults.happens(0.5));
    for (const replica of world.replicas.values())
      for (const { subscription } of replica.probes.splice(0)) subscription.close();
    await within(DESERTED, () => remains(world));
    if (world.broken.length === 0 && world.api.asked > asked)
      world.break("silence", `${world.api.asked - asked} more writes were asked for when all was settled`);
  }
  const { now, turns } = world.scheduler;
  return {
    seed,
    steps,
    broken: world.broken,
    hash: world.hash,
    time: now,
    turns,
    cut: world.network.overfull,
  };
}
