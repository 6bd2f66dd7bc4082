// How the reflectors of a process keep up: what each holds, how often it asked, how long ago the API server was last heard.
import type { Reflector } from "../kube/reflector.ts";
import type { Registry } from "../metrics/registry.ts";
import type { Clock } from "../util/clock.ts";

type Observed = Pick<Reflector, "stats" | "size" | "isSynced" | "isStopped">;

/** @returns counts a reflector under its path; a later one of the same path takes its place */
export function reflectorMetrics(
  registry: Registry,
  clock: Clock,
): (path: string, reflector: Observed) => void {
  const objects = registry.gauge("kube_reflector_objects", "Objects that are known.");
  const synced = registry.gauge("kube_reflector_synced", "1 once the first list was complete.");
  const silence = registry.gauge(
    "kube_reflector_silence_seconds",
    "Since the API server was last heard; bookmarks come about every minute.",
  );
  const counters = [
    ["lists", registry.counter("kube_reflector_lists_total", "Complete lists.")],
    ["watches", registry.counter("kube_reflector_watches_total", "Watches begun.")],
    ["events", registry.counter("kube_reflector_events_total", "Changes told by watches.")],
    ["errors", registry.counter("kube_reflector_errors_total", "Lists and watches that failed.")],
  ] as const;
  const collectors = new Map<string, () => void>();
  registry.onCollect(() => {
    for (const collect of collectors.values()) collect();
  });
  return (path, reflector) => {
    const labels = { path };
    // Where a kind came back, counting goes on from what was counted before it went.
    const totals = counters.map(([name, family]) => {
      const series = family.labels(labels);
      return { name, series, before: series.value };
    });
    const gauges = [objects, synced, silence].map((family) => family.labels(labels));
    collectors.set(path, () => {
      const { stats, size, isSynced, isStopped } = reflector;
      const heard = isStopped ? undefined : stats.heardAt;
      gauges[0]!.set(isStopped ? 0 : size);
      gauges[1]!.set(isSynced && !isStopped ? 1 : 0);
      gauges[2]!.set(heard === undefined ? 0 : (clock.monotonic() - heard) / 1_000);
      for (const { name, series, before } of totals) series.inc(before + stats[name] - series.value);
    });
  };
}
