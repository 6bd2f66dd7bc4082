// Waits for the pod's proxy: `proxy-await.js --port=4191 --timeout=2m`, or before a command and after it.
import { main } from "../proxy-await/main.ts";

process.exitCode = await main(process.argv.slice(2));
