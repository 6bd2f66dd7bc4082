// New mTLS connections: what one costs the side that accepts, in full and resumed, and what it costs a pair.
import { closedLoop, cpuOf, LONG_WARM_UP, type Load, ratio } from "../closed-loop.ts";
import { type Bench, LOAD_CORE, type Running } from "../harness.ts";
import type { HandshakeResult, HandshakeSettings } from "../load/handshake.ts";
import { wrk } from "../load/wrk.ts";
import { haproxyPair, haproxyServer } from "../peers/haproxy.ts";
import type { Row, Stage } from "../stage.ts";

const LANES = 8;

export const handshakes: Row = {
  id: "handshakes",
  title: "New mTLS connections",
  needs: ["haproxy", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const names = new Map<number, string>();
    /** Our proxy ends TLS for its own name only. */
    const ours = async (): Promise<Running> => {
      const server = await mesh.proxy({ name: "server", app });
      names.set(server.inbound, server.identity);
      return { port: server.inbound, processes: [server.child] };
    };
    const results = [];
    const verdicts = [];
    for (const resume of [false, true]) {
      const kind = resume ? "resumed" : "in full";
      const load: Load = (port, seconds) =>
        shakeHands(stage, { port, name: names.get(port) ?? tls.name, resume, seconds });
      const accepted = await closedLoop(stage, {
        caption: `Accepted ${kind}, a request on each`,
        unit: "connection",
        warmUp: LONG_WARM_UP,
        load,
        subjects: [
          { name: "HAProxy", kind: "haproxy", start: () => haproxyServer(bench, app, tls) },
          { name: "kubectl-mesh inbound", kind: "ours", start: ours },
        ],
      });
      results.push(accepted);
      verdicts.push({ work: `new mTLS connections accepted ${kind}, per CPU second`, ...accepted });
    }
    const between = await closedLoop(stage, {
      caption: "Between a pair, one for each TCP connection of the client, resumed as the proxies do",
      unit: "connection",
      warmUp: LONG_WARM_UP,
      load: wrk(bench, { headers: ["Connection: close"], connections: LANES }),
      subjects: [
        { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls, { mode: "tcp" }) },
        { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app, { opaque: true }) },
      ],
    });
    results.push(between);
    verdicts.push({ work: "new mTLS connections between a pair, per CPU second", ...between });
    return {
      tables: results.map(({ table }) => table),
      failures: results.flatMap(({ failures }) => failures),
      verdicts: verdicts.map(({ work, outcomes }) => ({
        work,
        sense: "at least",
        limit: 0.5,
        value: ratio(cpuOf(outcomes, "haproxy"), cpuOf(outcomes, "ours")),
        unit: "× HAProxy",
      })),
      notes: [
        "ECDSA P-256 on both sides, TLS 1.3. The client needs more CPU than what it calls, so the targets are judged by connections per second of the proxy's CPU. All are warmed up for 4 s.",
      ],
    };
  },
};

async function shakeHands(
  { bench, tls }: { bench: Bench; tls: Stage["tls"] },
  run: Pick<HandshakeSettings, "port" | "name" | "resume" | "seconds">,
): ReturnType<Load> {
  const { key, chain, anchors } = tls;
  const settings: HandshakeSettings = { ...run, key, chain, anchors, lanes: LANES };
  const output = await bench.run(
    "handshakes",
    LOAD_CORE,
    process.execPath,
    [bench.program("load/handshake.ts")],
    {
      HANDSHAKE: JSON.stringify(settings),
    },
  );
  const { connections, resumed, failed, seconds } = JSON.parse(output) as HandshakeResult;
  // The first of each lane has nothing to resume.
  const expected = run.resume ? connections - LANES : 0;
  if (resumed < expected) throw new Error(`${resumed} of ${connections} connections were resumed`);
  return { units: connections, failed, seconds };
}
