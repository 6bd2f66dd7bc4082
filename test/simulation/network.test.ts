// The simulated network keeps what TCP keeps.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Chance } from "../support/chance.ts";
import { type Machine, Network, type SimulatedSocket } from "./network.ts";
import { MachineClock, Scheduler } from "./time.ts";

const test = suite("simulated network");

test("what waited for a machine that took nothing arrives in the order in which it was sent", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const scheduler = new Scheduler();
    const chance = new Chance(seed);
    const network = new Network(scheduler, chance);
    const machine = (name: string): Machine => ({
      name,
      clock: new MachineClock(scheduler, chance),
      accept: undefined,
      lag: 0,
      deaf: false,
    });
    const [from, to] = [machine("from"), machine("to")];
    const heard: string[] = [];
    to.accept = (socket) => socket.on("data", (chunk: Buffer) => heard.push(chunk.toString()));
    let socket: SimulatedSocket | undefined;
    void network.connect(from, to).then((connected) => {
      socket = connected;
    });
    await scheduler.run(1_000);
    to.deaf = true;
    const sent = Array.from({ length: 10 }, (_, at) => String(at));
    for (const word of sent) {
      socket!.write(word);
      await scheduler.run(70);
    }
    to.deaf = false;
    await scheduler.run(2_000);
    assert.is(heard.join(""), sent.join(""), `seed ${seed}`);
  }
});

test.run();
