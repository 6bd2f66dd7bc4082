// The controller that tells proxies where Services are.
import { main } from "../controller/destination/main.ts";

await main();
