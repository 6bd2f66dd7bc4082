// The sidecar proxy.
import { main } from "../proxy/main.ts";

await main();
