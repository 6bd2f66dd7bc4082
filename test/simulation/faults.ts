// What goes wrong, and what merely happens, chosen by the seed step by step.
import { API } from "./api-server.ts";
import { PORT } from "./cluster.ts";
import { ROLES } from "./replica.ts";
import type { Theme } from "./themes.ts";
import type { World } from "./world.ts";

interface Happening {
  readonly name: string;
  readonly weight: number;
  /** In which themes it happens more often. */
  readonly of?: readonly Theme[];
  happen(world: World): void;
}

/** How much more often than otherwise something of the theme happens. */
const FOCUS = 5;

const seconds = (world: World, least: number, most: number) =>
  world.chance.faults.between(least * 1_000, most * 1_000);

/** What ends a fault that lasts; all of them are ended when the faults stop. */
export class Lasting {
  readonly #ends = new Set<() => void>();

  begin(world: World, ms: number, end: () => void): void {
    const once = () => {
      if (this.#ends.delete(once)) end();
    };
    this.#ends.add(once);
    world.scheduler.after(ms, once);
  }

  endAll(): void {
    for (const end of [...this.#ends]) end();
  }
}

function cut(
  world: World,
  lasting: Lasting,
  links: readonly (readonly [string, string])[],
  ms: number,
): void {
  for (const [a, b] of links) world.network.cut(a, b);
  lasting.begin(world, ms, () => {
    for (const [a, b] of links) world.network.mend(a, b);
  });
}

const replicas = (world: World) => [...world.replicas.values()];
const proxies = (world: World) => [...world.proxies.values()];

const happenings = (lasting: Lasting): Happening[] => [
  {
    name: "an address moves to another pod",
    weight: 10,
    of: ["addresses"],
    happen: ({ cluster }) => cluster.snatch(),
  },
  { name: "an app is scaled", weight: 5, of: ["addresses"], happen: ({ cluster }) => cluster.scale() },
  { name: "an app is rolled out", weight: 5, of: ["addresses"], happen: ({ cluster }) => cluster.roll() },
  { name: "finished pods are swept", weight: 2, happen: ({ cluster }) => cluster.sweep() },
  {
    name: "a Service changes",
    weight: 5,
    of: ["addresses", "traffic"],
    happen: ({ cluster }) => cluster.service(),
  },
  {
    name: "an ExternalWorkload changes",
    weight: 4,
    of: ["addresses", "leaders"],
    happen: ({ cluster }) => cluster.workload(),
  },
  {
    name: "it is changed who may call whom",
    weight: 16,
    of: ["authorization", "leaders"],
    happen({ policy, chance }) {
      for (let count = chance.faults.between(1, 5); count > 0; count -= 1) policy.write("inbound");
    },
  },
  {
    name: "it is changed where traffic goes",
    weight: 8,
    of: ["traffic", "leaders"],
    happen({ policy, chance }) {
      for (let count = chance.faults.between(1, 5); count > 0; count -= 1) policy.write("outbound");
    },
  },
  {
    name: "a proxy uses other Services",
    weight: 10,
    of: ["addresses", "traffic"],
    happen(world) {
      const { faults } = world.chance;
      const pods = world.cluster.pods();
      for (const proxy of faults.some(proxies(world), 0.4)) {
        const { namespace, name } = faults.of(world.cluster.apps);
        if (faults.happens(0.6)) world.use(proxy, namespace, name);
        else if (faults.happens(0.4)) proxy.ask(faults.of(pods).status!.podIP!, PORT);
        else if (proxy.endpoints.size > 0) proxy.forget(faults.of([...proxy.endpoints.keys()]));
      }
    },
  },
  {
    name: "a proxy restarts",
    weight: 3,
    of: ["certificates"],
    happen(world) {
      const { faults } = world.chance;
      if (world.proxies.size > 0) world.loseProxy(faults.of(proxies(world)), faults.happens(0.5));
      world.attendPods();
    },
  },
  {
    name: "a proxy asks for another's certificate",
    weight: 3,
    of: ["certificates"],
    happen(world) {
      const { faults } = world.chance;
      if (world.proxies.size === 0) return;
      const [proxy, other] = [faults.of(proxies(world)), faults.of(proxies(world))];
      if (proxy.localName !== other.localName)
        proxy.pretend(other.localName, () =>
          world.break("certificates", `${proxy.name} was given a certificate for ${other.localName}`),
        );
    },
  },
  {
    name: "a replica is lost",
    weight: 4,
    of: ["leaders", "certificates"],
    happen(world) {
      const { faults } = world.chance;
      const victim = faults.of(replicas(world));
      world.loseReplica(victim, faults.happens(0.5));
      lasting.begin(world, seconds(world, 1, 10), () => void world.addReplica(victim.role));
    },
  },
  {
    name: "a replica leaves",
    weight: 3,
    of: ["leaders"],
    happen(world) {
      const leaving = world.chance.faults.of(replicas(world));
      if (leaving.leaving) return;
      world.addReplica(leaving.role);
      void leaving.stop().then(() => {
        if (world.replicas.has(leaving.name)) world.loseReplica(leaving, false);
      });
    },
  },
  {
    name: "a replica does not reach the API server",
    weight: 5,
    of: ["leaders"],
    happen(world) {
      const { faults } = world.chance;
      const links = faults.some(replicas(world), 0.3).map(({ name }) => [name, API] as const);
      cut(world, lasting, links, seconds(world, 1, 40));
    },
  },
  {
    name: "proxies do not reach replicas",
    weight: 5,
    happen(world) {
      const { faults } = world.chance;
      cut(world, lasting, faults.some(world.links(), 0.2), seconds(world, 1, 40));
    },
  },
  {
    name: "the mesh is cut in two",
    weight: 2,
    happen(world) {
      const { faults } = world.chance;
      const side = new Set(faults.some([API, ...world.replicas.keys(), ...world.proxies.keys()], 0.5));
      const across = world.links().filter(([a, b]) => side.has(a) !== side.has(b));
      cut(world, lasting, across, seconds(world, 1, 30));
    },
  },
  {
    name: "machines are slow",
    weight: 4,
    happen(world) {
      const { faults } = world.chance;
      const slow = faults.some([...replicas(world), ...proxies(world)], 0.25);
      for (const machine of slow) machine.lag = faults.of([300, 2_000, 8_000]);
      lasting.begin(world, seconds(world, 2, 20), () => {
        for (const machine of slow) machine.lag = 0;
      });
    },
  },
  {
    name: "proxies stop reading while much changes",
    weight: 2,
    happen(world) {
      const { faults } = world.chance;
      const deaf = faults.some(proxies(world), 0.5);
      for (const proxy of deaf) proxy.deaf = true;
      lasting.begin(world, seconds(world, 8, 20), () => {
        for (const proxy of deaf) proxy.deaf = false;
      });
      world.policy.flap(200, 60);
    },
  },
  {
    name: "a clock is wrong",
    weight: 2,
    of: ["certificates"],
    happen(world) {
      const { faults } = world.chance;
      const wrong = faults.of([...replicas(world), ...proxies(world)]);
      wrong.clock.skew = faults.between(-9_000, 9_000);
    },
  },
  {
    name: "watches end",
    weight: 4,
    of: ["leaders"],
    happen(world) {
      const { faults } = world.chance;
      world.api.endWatches(faults.some([...world.replicas.keys()], 0.5), faults.of(["end", "break", "gone"]));
    },
  },
  {
    name: "the API server forgets old versions",
    weight: 3,
    happen(world) {
      world.api.compact();
      if (world.chance.faults.happens(0.5)) world.api.endWatches([...world.replicas.keys()], "break");
    },
  },
  {
    name: "the API server restarts",
    weight: 2,
    of: ["leaders", "addresses"],
    happen(world) {
      const { faults } = world.chance;
      world.api.restart(seconds(world, 1, 15), faults.happens(0.5));
    },
  },
  {
    name: "requests to the API server fail",
    weight: 3,
    of: ["leaders"],
    happen(world) {
      const { faults } = world.chance;
      const names = faults.some([...world.replicas.keys()], 0.4);
      for (const name of names) world.api.failing.set(name, 0.6);
      lasting.begin(world, seconds(world, 2, 20), () => {
        for (const name of names) world.api.failing.delete(name);
      });
    },
  },
  {
    name: "the issuer is rotated",
    weight: 2,
    of: ["certificates"],
    happen: (world) => world.authority.rotate(world.scheduler.now),
  },
];

export class Faults {
  readonly #world: World;
  readonly #lasting = new Lasting();
  readonly #all: readonly Happening[];
  readonly #sum: number;

  constructor(world: World) {
    this.#world = world;
    this.#all = happenings(this.#lasting).map((each) => ({
      ...each,
      weight: each.of?.includes(world.theme) ? each.weight * FOCUS : each.weight,
    }));
    this.#sum = this.#all.reduce((sum, { weight }) => sum + weight, 0);
  }

  /** Lets one thing happen. @returns how long until the next, ms */
  step(): number {
    const world = this.#world;
    const { faults } = world.chance;
    let at = faults.next() * this.#sum;
    const happening = this.#all.find(({ weight }) => {
      at -= weight;
      return at < 0;
    })!;
    world.trace(`** ${happening.name}`);
    happening.happen(world);
    for (const app of world.cluster.apps) if (faults.happens(0.6)) world.cluster.step(app);
    world.attendPods();
    return faults.happens(0.3) ? faults.between(1, 100) : faults.between(100, 6_000);
  }

  /** Nothing goes wrong any more; what was lost is there again. */
  stop(): void {
    const world = this.#world;
    this.#lasting.endAll();
    for (const role of ROLES)
      while (replicas(world).filter((each) => each.role === role && !each.leaving).length < 2)
        world.addReplica(role);
    for (const machine of [...replicas(world), ...proxies(world)]) {
      machine.lag = 0;
      machine.clock.skew = 0;
    }
    if (world.authority.left(world.scheduler.now) < 200_000) world.authority.rotate(world.scheduler.now);
    world.cluster.sweep();
    world.cluster.restore();
    for (const app of world.cluster.apps) world.cluster.settle(app);
    world.attendPods();
  }
}
