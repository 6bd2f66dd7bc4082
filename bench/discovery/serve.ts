// Runs a controller as it runs in the image, against the API server at BENCH_API, serving on BENCH_PORT.
import { type ControllerProcess, createController } from "../../src/controller/process.ts";
import { KubeClient } from "../../src/kube/client.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";

type Main = (
  run: (
    name: string,
    ports: object,
    setUp: (process: ControllerProcess) => void | Promise<void>,
  ) => Promise<void>,
) => Promise<void>;

/** @param main of a controller's `main.ts` */
export async function serve(main: Main): Promise<void> {
  const client = new KubeClient({
    server: process.env["BENCH_API"]!,
    basePath: "",
    tls: {},
    context: "bench",
    namespace: "mesh-system",
    headers: async () => ({}),
  });
  await main(async (_name, _ports, setUp) => {
    const controller = createController({
      env: {
        MESH_NAMESPACE: "mesh-system",
        MESH_DEFAULT_OPAQUE_PORTS: "25,587,3306,4444,5432,6379,9300,11211",
        MESH_CLUSTER_NETWORKS: "10.0.0.0/8",
      },
      log: createLogger({ level: "error" }),
      client,
      registry: new Registry(),
      port: Number(process.env["BENCH_PORT"]),
    });
    await setUp(controller);
    controller.started();
  });
  // Asked to end, it ends in order: Node then writes the profile that it was asked for.
  process.once("SIGINT", () => process.exit(0));
}
