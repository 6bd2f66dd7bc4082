// Bytes as fast as they go over one connection, by iperf3: megabytes carried.
import type { Load } from "../closed-loop.ts";
import { type Bench, LOAD_CORE, sleep } from "../harness.ts";

/** The server takes one client at a time, and a moment to be ready for the next. */
const ATTEMPTS = 5;
const PAUSE = 300;

/** Starts the back end. @returns its port */
export async function iperfServer(bench: Bench): Promise<number> {
  const port = await bench.port();
  const child = bench.start("iperf3 server", LOAD_CORE, "iperf3", [
    "-s",
    "-p",
    String(port),
    "-B",
    "127.0.0.1",
  ]);
  await bench.listening(child, port);
  return port;
}

/** @param reverse from the server to the client */
export const iperf =
  (bench: Bench, reverse = false): Load =>
  async (port, seconds) => {
    const args = ["-c", "127.0.0.1", "-p", String(port), "-t", String(seconds), "-Z", "-J"];
    for (let attempt = 1; ; attempt += 1) {
      try {
        const output = await bench.run("iperf3", LOAD_CORE, "iperf3", reverse ? [...args, "-R"] : args);
        const { end } = JSON.parse(output) as { end: { sum_received: { bytes: number; seconds: number } } };
        return { units: end.sum_received.bytes / 1e6, seconds: end.sum_received.seconds };
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
        await sleep(PAUSE);
      }
    }
  };
