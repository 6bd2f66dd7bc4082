// A service of the demo application: `demo.js web|emoji|voting|tally|bot`.
import { main } from "../demo/main.ts";

main(process.argv.slice(2)).catch((error: Error) => {
  process.stderr.write(`demo: ${error.message}\n`);
  process.exitCode = 1;
});
