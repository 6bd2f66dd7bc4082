// What Prometheus expects every process to say of itself, and which proxy this is.
import { readdirSync, readFileSync } from "node:fs";
import type { Registry } from "../metrics/registry.ts";
import { VERSION } from "../util/version.ts";
import { maxDescriptors } from "./transport/descriptors.ts";

export function registerProcessMetrics(registry: Registry): void {
  registry
    .gauge("proxy_build_info", "The proxy's version.")
    .labels({ version: VERSION, vendor: "kubectl-mesh" })
    .set(1);
  registry
    .gauge("process_start_time_seconds", "When the process started, in seconds since the epoch.")
    .labels()
    .set(Math.floor(Date.now() / 1000 - process.uptime()));
  const cpu = registry.counter("process_cpu_seconds_total", "CPU time spent, in seconds.").labels();
  const resident = registry.gauge("process_resident_memory_bytes", "Resident memory.").labels();
  const anonymous = registry
    .gauge("process_anonymous_memory_bytes", "Memory that no other copy of the process shares.")
    .labels();
  const files = registry.gauge("process_open_fds", "Open file descriptors.").labels();
  const most = maxDescriptors();
  if (most !== undefined)
    registry.gauge("process_max_fds", "Most file descriptors that may be open.").labels().set(most);
  let counted = 0;
  registry.onCollect(() => {
    const { user, system } = process.cpuUsage();
    const seconds = (user + system) / 1e6;
    cpu.inc(seconds - counted);
    counted = seconds;
    resident.set(process.memoryUsage.rss());
    try {
      const rollup = readFileSync("/proc/self/smaps_rollup", "latin1");
      anonymous.set(Number(/^Anonymous:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024);
      files.set(readdirSync("/proc/self/fd").length);
    } catch {
      // Not Linux, or no /proc: the two stay at zero.
    }
  });
}
