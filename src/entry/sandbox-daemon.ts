// The sandbox's daemon: see src/sandbox/daemon/main.ts.
import { failureLine, main } from "../sandbox/daemon/main.ts";

main(process.env).then(
  () => process.exit(0),
  (error) => process.stderr.write(failureLine(error), () => process.exit(1)),
);
