// Entry point of the init container linkerd-network-validator.
import { main } from "../network-validator/main.ts";

process.exitCode = await main(process.argv.slice(2));
