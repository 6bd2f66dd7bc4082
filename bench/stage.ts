// What a row of the bench has at hand: processes, our mesh, certificates, a back end, and rounds in turns.
import { type Bench, LOAD_CORE, type Running } from "./harness.ts";
import type { Tool } from "./machine.ts";
import type { Mesh, PeerCertificates } from "./mesh.ts";
import { haproxy, haproxyBackEnd } from "./peers/haproxy.ts";
import type { RowResult } from "./report.ts";

/** A row of the table: named, and able to measure itself. */
export interface Row {
  /** For --only. */
  readonly id: string;
  readonly title: string;
  readonly needs: readonly Tool[];
  /** @throws Error when nothing could be measured; single subjects that fail are told in the result */
  measure(stage: Stage): Promise<RowResult>;
}

/** One of those that are compared. */
export interface Subject {
  readonly name: string;
  readonly kind: "direct" | "haproxy" | "nginx" | "naive" | "ours";
  start(): Promise<Running>;
}

/** What the rounds of one subject brought. */
export interface Outcome<S> {
  readonly subject: Subject;
  readonly samples: readonly S[];
  /** Why there are none. */
  readonly failure: string | undefined;
}

/** A measurement that something else disturbed is made again this often, and the least disturbed one counts. */
const REPEATS = 2;

export class Stage {
  readonly bench: Bench;
  readonly mesh: Mesh;
  readonly tls: PeerCertificates;
  readonly #log: (message: string) => void;
  #backEnd: Promise<number> | undefined;

  constructor(bench: Bench, mesh: Mesh, log: (message: string) => void) {
    this.bench = bench;
    this.mesh = mesh;
    this.tls = mesh.certificates();
    this.#log = log;
  }

  log(message: string): void {
    this.#log(message);
  }

  /** The port of a back end that answers HTTP/1 and HTTP/2 by itself, with a few bytes. */
  backEnd(): Promise<number> {
    this.#backEnd ??= (async () => {
      const port = await this.bench.port();
      await haproxy(this.bench, "back-end", LOAD_CORE, port, haproxyBackEnd(port));
      return port;
    })();
    return this.#backEnd;
  }

  /** The subject that is no proxy. */
  direct(port: number): Subject {
    return { name: "no proxy", kind: "direct", start: async () => ({ port, processes: [] }) };
  }

  /**
   * Measures once, or again while something else disturbed it.
   * @param disturbance of a measurement, as a share
   * @param most how much of it is accepted
   */
  async leastDisturbed<S>(
    measure: () => Promise<S>,
    disturbance: (sample: S) => number,
    most: number,
  ): Promise<S> {
    let best = await measure();
    for (
      let again = 0;
      !this.bench.options.quick && disturbance(best) > most && again < REPEATS;
      again += 1
    ) {
      this.log(`disturbed by others (${Math.round(disturbance(best) * 100)} %), once more`);
      const next = await measure();
      if (disturbance(next) < disturbance(best)) best = next;
    }
    return best;
  }

  /**
   * Measures all subjects once a round, each freshly started, so that what changes on the machine meets all alike. One
   * that fails is not tried again; the others go on.
   */
  async compare<S>(
    subjects: readonly Subject[],
    measure: (running: Running, subject: Subject) => Promise<S>,
    rounds = this.bench.options.rounds,
  ): Promise<Outcome<S>[]> {
    const samples = subjects.map((): S[] => []);
    const failures = new Map<Subject, string>();
    for (let round = 0; round < rounds; round += 1) {
      for (const [index, subject] of subjects.entries()) {
        if (failures.has(subject)) continue;
        this.log(`${subject.name}, round ${round + 1} of ${rounds}`);
        let running: Running | undefined;
        try {
          running = await subject.start();
          samples[index]!.push(await measure(running, subject));
        } catch (error) {
          const dead = running?.processes.find((child) => child.gone);
          const message = dead ? dead.obituary : error instanceof Error ? error.message : String(error);
          failures.set(subject, message.trim());
          this.log(`${subject.name} failed: ${message.trim()}`);
        } finally {
          await this.bench.stop(running?.processes ?? []);
        }
      }
    }
    return subjects.map((subject, index) => {
      const failure = failures.get(subject);
      return { subject, samples: failure === undefined ? samples[index]! : [], failure };
    });
  }
}

/** What could not be measured, for a row's result. */
export const failuresOf = (outcomes: readonly Outcome<unknown>[], where = ""): string[] =>
  outcomes.flatMap(({ subject, failure }) =>
    failure === undefined ? [] : [`${subject.name}${where}: not measured: ${failure}`],
  );
