// The metrics API, one process of the control plane.
import { main } from "../controller/metrics-api/main.ts";

main().catch((error: Error) => {
  process.stderr.write(`metrics-api: ${error.message}\n`);
  process.exit(1);
});
