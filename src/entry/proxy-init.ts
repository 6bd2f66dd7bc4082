// Entry point of the init container linkerd-init.
import { main } from "../proxy-init/main.ts";

process.exitCode = await main(process.argv.slice(2));
