// The controller that tells proxies who may call whom, and how.
import { main } from "../controller/policy/main.ts";

await main();
