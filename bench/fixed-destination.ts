// Stands in for proxy/transport/original-dst.ts in the proxy that is measured: without iptables there is no original
// destination, so each of its ports has one from BENCH_DESTINATIONS. The kernel is asked all the same, for its cost.
import type { OriginalDestination } from "../src/proxy/ports.ts";
import { kernelOriginalDestination as askKernel } from "../src/proxy/transport/original-dst.ts";

/** JSON in BENCH_DESTINATIONS: local port → address. */
export type FixedDestinations = Readonly<Record<number, { readonly ip: string; readonly port: number }>>;

export async function kernelOriginalDestination(): Promise<OriginalDestination> {
  const kernel = await askKernel();
  const fixed: FixedDestinations = JSON.parse(process.env["BENCH_DESTINATIONS"] ?? "{}");
  return {
    of(socket) {
      const real = kernel.of(socket);
      return fixed[socket.localPort ?? 0] ?? real;
    },
  };
}
